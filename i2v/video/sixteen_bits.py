"""Pictures of 16 bits per value, which Pillow cuts to 8 bits while it reads: both bytes are kept until the colours are
converted.

In linear light one level of 8 bits is thirteen of sRGB's near black, so 8 bits before the conversion would be seen as
bands.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from PIL import Image

Convert = Callable[[np.ndarray], np.ndarray]
"""(h, W, 1) or (h, W, 3) values of 16 bits to (h, W, 3) of 8 bits in sRGB."""

# Pillow's words for how values lie in a file, and those that read the byte which it leaves out.
_BIG, _LITTLE = "16B", "16L"
_OTHER_BYTE = {
    f"{bands};{order}": f"{bands};{other}"
    for bands in ("RGB", "RGBA")
    for order, other in ((_BIG, _LITTLE), (_LITTLE, _BIG), ("16N", _BIG if sys.byteorder == "little" else _LITTLE))
}
_OTHER_BYTE["LA;16B"] = "RGBA"  # grey and alpha are four bytes, and are read as such
_GREY = ("I;16", "I;16B", "I;16L")
_BAND_VALUES = 2**21  # converted at once


@dataclass(frozen=True)
class DeepPicture:
    """`parts`: one grey picture of 16 bits; or one of four bytes for grey and alpha; or two, of the upper and of the
    lower bytes. `key`: the colour that is transparent."""

    parts: tuple[Image.Image, ...]
    key: tuple[int, ...] | None = None

    @property
    def size(self) -> tuple[int, int]:
        return self.parts[0].size

    @property
    def is_grey(self) -> bool:
        return len(self.parts) == 1

    def rows(self, top: int, bottom: int) -> np.ndarray:
        """(h, W, C) uint16; C is 1 for grey, 2 with alpha, 3 for RGB, 4 with alpha."""
        bands = [np.asarray(part.crop((0, top, part.width, bottom))) for part in self.parts]
        if len(bands) == 2:
            return bands[0].astype(np.uint16) << 8 | bands[1]
        (only,) = bands
        values = only[..., None] if only.ndim == 2 else np.ascontiguousarray(only).view(">u2")
        return values.astype(np.uint16)


def other_byte(picture: Image.Image) -> str | None:
    """How to read again what Pillow is about to leave out of `picture`, which is opened and not loaded; None where it
    leaves out nothing, or the file is stored in another way."""
    modes = {tile.args if isinstance(tile.args, str) else tile.args[0] for tile in picture.tile if tile.args}
    return _OTHER_BYTE.get(modes.pop()) if len(modes) == 1 else None


def deep_picture(picture: Image.Image, source: BinaryIO, other: str | None) -> DeepPicture | None:
    """The values of 16 bits in `source`, of which `picture` is what Pillow has loaded and `other` what `other_byte`
    said before; None where they have 8 bits."""
    key = picture.info.get("transparency")
    key = (key,) if isinstance(key, int) else key if isinstance(key, tuple) else None
    if picture.mode in _GREY:
        return DeepPicture((picture,), key)
    if other is None:
        return None
    source.seek(0)
    with Image.open(source, formats=(picture.format,)) as again:
        again.tile = [
            tile._replace(args=other if isinstance(tile.args, str) else (other, *tile.args[1:])) for tile in again.tile
        ]
        again.load()
    return DeepPicture((again,) if other == "RGBA" else (picture, again), key)


def on_white(deep: DeepPicture, convert: Convert) -> Image.Image:
    """`deep` as 8-bit RGB by `convert`, transparent parts on white."""
    width, height = deep.size
    shown = np.empty((height, width, 3), np.uint8)
    rows = max(1, _BAND_VALUES // width)
    for top in range(0, height, rows):
        values = deep.rows(top, min(top + rows, height))
        colours = values[..., : values.shape[2] - 1 + values.shape[2] % 2]
        band = convert(colours)
        if (alpha := _alpha(values, deep.key)) is not None:
            band = np.rint(255 - (255 - band.astype(np.float32)) * alpha)
        shown[top : top + rows] = band
    return Image.fromarray(shown)


def eight_bits(values: np.ndarray) -> np.ndarray:
    """Values of 16 bits as the nearest of 8 bits."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _alpha(values: np.ndarray, key: tuple[int, ...] | None) -> np.ndarray | None:
    """(h, W, 1) from 0 to 1; None where all is opaque."""
    if values.shape[2] in (2, 4):
        return values[..., -1:] / np.float32(65535)
    if key is None or len(key) != values.shape[2]:
        return None
    return (values != np.array(key)).any(axis=2, keepdims=True).astype(np.float32)
