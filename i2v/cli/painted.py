"""`--region FILE`: a picture of any kind, white where something is to live, as it travels in a request."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops, ImageOps
from PIL.Image import Resampling

from i2v.request import AUTO
from i2v.settings.settings import Settings
from i2v.video.picture import load_picture
from i2v.video.region import LONG_SIDE, check_shape, read, written


def with_region(values: Mapping[str, Any], photograph: Path | None, settings: Settings) -> dict[str, Any]:
    """`values` with the region that its file shows in place of the file's name, of the same shape as `photograph`.
    Raises UserError for a file that is no picture, has another shape, or shows no white."""
    name = values.get("region")
    if name is None or str(name).strip().lower() in ("", AUTO):
        return dict(values)
    region = _light(Path(name), settings.max_picture_megapixels)
    if photograph is not None and photograph.is_file():
        shape = load_picture(photograph, max_megapixels=settings.max_picture_megapixels).size
        check_shape(region.size, shape)
        scale = min(1.0, LONG_SIDE / max(shape))
        region = region.resize([max(1, round(side * scale)) for side in shape], Resampling.BOX)
    text = written(region)
    read(text)
    return {**values, "region": text}


def _light(path: Path, max_megapixels: float) -> Image.Image:
    """How white the picture at `path` is, grey. Transparent parts, which are white elsewhere in the app, count as
    black: painting programs leave what was not painted transparent."""
    region = load_picture(path, max_megapixels=max_megapixels).convert("L")
    with suppress(OSError, ValueError), Image.open(path) as file:
        if file.has_transparency_data:
            opacity = ImageOps.exif_transpose(file.convert("RGBA")).getchannel("A")
            return ImageChops.multiply(region, opacity)
    return region
