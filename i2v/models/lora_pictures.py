"""The picture of a LoRA, made small: the one in its header, else one of the same name beside it.

Where it comes from is nobody's to trust: only three formats are read, of a limited size, and what is handed on is
written anew. A link that leads out of the folders of LoRAs is not followed.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageOps

from i2v.messages import UserError
from i2v.models.adapters import metadata_of
from i2v.models.lora_about import THUMBNAIL
from i2v.models.lora_places import FOLDER

SIDE = 144  # pixels
BESIDE = (".png", ".jpg", ".jpeg", ".webp", ".preview.png", ".preview.jpg", ".preview.jpeg", ".preview.webp")
_FORMATS = ("PNG", "JPEG", "WEBP")
_MOST_BYTES = 20 * 2**20
_MOST_PIXELS = 64_000_000
_QUALITY = 70
_START = "base64,"


def picture_of(file: Path, models_dir: Path, elsewhere: Sequence[Path] = ()) -> bytes | None:
    """A WebP of at most SIDE pixels a side of the LoRA in `file`; None where it has none, or none that can be read."""
    try:
        picture = _inside(beside(file), (models_dir / FOLDER, *elsewhere))
        kept = [(one, found.st_size, found.st_mtime_ns) for one in (file, picture) if one and (found := one.stat())]
    except OSError:
        return None
    return _picture(tuple(kept))


def beside(file: Path) -> Iterator[Path]:
    """The pictures of the name of the LoRA in `file`, wherever links among them lead."""
    stem = file.with_suffix("") if file.suffix else file
    yield from (path for ending in BESIDE if (path := stem.with_name(stem.name + ending)).is_file())


def _inside(pictures: Iterable[Path], folders: Sequence[Path]) -> Path | None:
    """The first that is in one of these folders."""
    for path in pictures:
        try:
            if any(path.resolve().is_relative_to(folder.resolve()) for folder in folders):
                return path
        except OSError:
            continue
    return None


@lru_cache(512)
def _picture(kept: tuple[tuple[Path, int, int], ...]) -> bytes | None:
    """Of the LoRA's file, and of the picture beside it where there is one; each with its bytes and when it changed."""
    (file, *_), *beside = kept
    try:
        _, _, text = metadata_of(file).get(THUMBNAIL, "").partition(_START)
    except UserError:
        text = ""
    if text and len(text) <= _MOST_BYTES and (made := _small(_decoded(text))):
        return made
    for picture, size, _ in beside:
        if size <= _MOST_BYTES:
            try:
                return _small(picture.read_bytes())
            except OSError:
                return None
    return None


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=False)
    except ValueError:
        return b""


def _small(content: bytes) -> bytes | None:
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as opened:
            if opened.width * opened.height > _MOST_PIXELS:
                return None
            opened.draft("RGB", (SIDE, SIDE))
            upright = ImageOps.exif_transpose(opened).convert("RGB")
        upright.thumbnail((SIDE, SIDE))
        written = io.BytesIO()
        upright.save(written, "WEBP", quality=_QUALITY)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, MemoryError):
        return None
    return written.getvalue()
