"""Where in the photograph something is to live: a small grey picture, white where it does, that travels in the request.

It belongs to the whole photograph, so that another size or cut of the video needs no new one.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
import warnings
from typing import Any

from PIL import Image
from PIL.Image import Resampling

from i2v.messages import UserError
from i2v.request import Fit, GenerationRequest
from i2v.settings.values import shown
from i2v.video.picture import kept_box

LONG_SIDE = 256  # pixels; finer than any region that a brush paints
MAX_CHARACTERS = 128 * 1024
LEAST_SHARE = 5e-4  # of the photograph; less is a slip of the pointer
SHAPE_TOLERANCE = 0.02  # by which a region may be wider or narrower than its photograph


def written(region: Image.Image) -> str:
    """`region` as it is kept in a request: grey, at most LONG_SIDE pixels long, a PNG in base64."""
    grey = region.convert("L")
    scale = min(1.0, LONG_SIDE / max(grey.size))
    small = grey.resize([max(1, round(side * scale)) for side in grey.size], Resampling.BOX) if scale < 1 else grey
    file = io.BytesIO()
    small.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode("ascii")


def read(text: Any) -> Image.Image:
    """What `written` made, as a grey image. Raises UserError for anything else, and where nothing is painted."""
    if not isinstance(text, str) or len(text) > MAX_CHARACTERS:
        raise UserError("region.unreadable")
    try:
        with (
            warnings.catch_warnings(),
            Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=("PNG",)) as file,
        ):
            warnings.simplefilter("error")
            if max(file.size) > LONG_SIDE:
                raise UserError("region.unreadable")
            region = file.convert("L")
    except (binascii.Error, ValueError, OSError, SyntaxError, Warning, Image.DecompressionBombError) as error:
        raise UserError("region.unreadable") from error
    if (
        sum(level * count for level, count in enumerate(region.histogram()))
        < 255 * LEAST_SHARE * region.width * region.height
    ):
        raise UserError("region.empty")
    return region


def check_shape(region: tuple[int, int], photograph: tuple[int, int]) -> None:
    """Raises UserError where a region of this size (width, height) cannot belong to a photograph of that one. Rounding
    the sides of a small region changes its shape too, by up to a pixel."""
    scale = max(region) / max(photograph)
    for side, full in zip(region, photograph, strict=True):
        if abs(side - full * scale) > max(1.0, SHAPE_TOLERANCE * full * scale):
            sizes = {"region": f"{region[0]}x{region[1]}", "photograph": f"{photograph[0]}x{photograph[1]}"}
            raise UserError("region.shape", **sizes)


def read_way(value: Any) -> tuple[float, float]:
    """The direction in `value`, "X,Y" or two numbers, x right and y down, brought to length 1; one that has it stays
    the same to the bit. Raises UserError for anything else, and for two zeros."""
    parts = value.split(",") if isinstance(value, str) else value
    try:
        x, y = (float(part) for part in parts)
        length = math.hypot(x, y)
        if not 0 < length < math.inf:
            raise ValueError(length)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError("region.way", value=shown(value)) from error
    return (x, y) if abs(length - 1) < 1e-9 else (x / length, y / length)


def size_in_shape_of(width: int, height: int) -> tuple[int, int]:
    """The size (width, height) of a region in the shape of a video of this size, as long as a region is kept."""
    scale = LONG_SIDE / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def in_frame_of(request: GenerationRequest) -> Image.Image | None:
    """The region of `request` cut as its photograph is, in the shape of the video; None where it has none. Raises
    UserError as `read` does."""
    if request.region is None:
        return None
    return fit_region(read(request.region), *size_in_shape_of(request.width, request.height), request.fit)


def kept_in_frame(request: GenerationRequest) -> str | None:
    """The region of `request` as one of its video's frames has it. None where nothing of it was to be seen in there."""
    if (cut := in_frame_of(request)) is None:
        return None
    text = written(cut)
    try:
        read(text)
    except UserError:
        return None
    return text


def fit_region(region: Image.Image, width: int, height: int, fit: Fit) -> Image.Image:
    """`region` cut as `fit_picture` cuts its photograph, grey, at `width` x `height`; what is added around a padded
    photograph does not live."""
    if fit != "pad":
        return region.resize((width, height), Resampling.BILINEAR, box=kept_box(region.size, width, height, fit))
    scale = min(width / region.width, height / region.height)
    size = max(1, round(region.width * scale)), max(1, round(region.height * scale))
    canvas = Image.new("L", (width, height))
    canvas.paste(region.resize(size, Resampling.BILINEAR), ((width - size[0]) // 2, (height - size[1]) // 2))
    return canvas
