"""A picture that browsers cannot show, as a file that they can: TIFF, JPEG 2000 and others are taken all the same."""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image

from i2v.whole_file import whole_file

_SHOWN = re.compile(rb"\xff\xd8\xff|\x89PNG|GIF8|BM|RIFF....WEBP|....ftypavi[fs]", re.DOTALL)
_NAME_BYTES = 200  # leaves room for what is put after it
_FAST = 1  # of zlib's levels: the file is for this computer's own disk


def for_browsers(path: Path, picture: Image.Image) -> Path | None:
    """A PNG beside `path`, written of `picture`, which was read from it; None where browsers show `path` itself, and
    where the disk takes no more. It has every pixel of the picture, so that the same video comes of it."""
    try:
        with path.open("rb") as file:
            if _SHOWN.match(file.read(16)):
                return None
        name = path.name.encode()[:_NAME_BYTES].decode(errors="ignore")
        target = path.with_name(f"{name}.png")
        with whole_file(target) as part:
            picture.save(part, "PNG", compress_level=_FAST)
    except OSError:
        return None
    return target
