"""How ffmpeg has to treat the frames of a clip so that they look as players show them, by what it tells of them."""

from __future__ import annotations

import re
from dataclasses import dataclass

# What it tells of numbers, colours and lines, as in `yuv420p(tv, bt709, top first)`.
_FORMAT = re.compile(r"Stream #0:0.*?: Video: .*?, (\w+\([^)]*\)|\w+), \d+x\d+")
_INTERLACED = re.compile(r"\b(top|bottom)( coded)? first\b")
_HIGH_RANGE = re.compile(r"smpte2084|arib-std-b67")
_MATRIX = re.compile(r"^(gbr|rgb|bgr|pal)|bt\d|smpte|fcc|ycgco|gbr")


@dataclass(frozen=True)
class Treatment:
    """`colours`: what ffmpeg's `scale` must be told of them. `interlaced`: each frame holds two moments, every other
    line of each."""

    colours: str
    interlaced: bool


def treatment_of(told: str, short_side: int) -> Treatment:
    """By what ffmpeg has `told` of a clip whose shorter side has so many pixels."""
    found = _FORMAT.search(told.partition("Output #0")[2])
    said = found[1] if found else ""
    return Treatment(_colours(said, short_side), bool(_INTERLACED.search(said)))


def _colours(said: str, short_side: int) -> str:
    """How the colours become those of usual screens. High dynamic range is brought down to that; where nothing is said,
    players take a video of 720 lines or more as BT.709 and a smaller one as BT.601."""
    if _HIGH_RANGE.search(said):
        return ":out_primaries=bt709:out_transfer=bt709"
    return ":in_color_matrix=bt709" if short_side >= 720 and not _MATRIX.search(said) else ""
