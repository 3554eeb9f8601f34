"""ICC profiles that are three primaries and one curve, as nearly all of photographs are, read as a colour space.

Pillow applies a profile to 8 bits only. Of these profiles the conversion can be computed here with more. Names and
layouts are those of the ICC's specification (ICC.1:2022).
"""

from __future__ import annotations

import struct

import numpy as np

from i2v.video.colours import SRGB_PRIMARIES, ColourSpace, Curve, power, to_xyz

_COLUMNS = (b"rXYZ", b"gXYZ", b"bXYZ")
_CURVES = (b"rTRC", b"gTRC", b"bTRC")
_TABLES = (b"A2B0", b"A2B1", b"D2B0", b"D2B1")  # count more than primaries and a curve
_PARAMETERS = (1, 3, 4, 5, 7)  # of a parametric curve, by its type


def simple_space(profile: bytes, *, grey: bool) -> ColourSpace | None:
    """The colour space of `profile` for RGB, or for `grey`; None where it is no such profile, or is damaged."""
    try:
        tags = _tags(profile)
        if any(name in tags for name in _TABLES) or profile[20:24] != b"XYZ ":
            return None
        if grey:
            return ColourSpace(SRGB_PRIMARIES, _curve(tags[b"kTRC"])) if profile[16:20] == b"GRAY" else None
        if profile[16:20] != b"RGB " or len({tags[name] for name in _CURVES}) != 1:
            return None
        columns = [_xyz(tags[name]) for name in _COLUMNS]
        primaries = tuple(share for xyz in (sum(columns), *columns) for share in (xyz / xyz.sum())[:2])
        return ColourSpace(primaries, _curve(tags[b"rTRC"])) if to_xyz(primaries) is not None else None
    except (struct.error, LookupError, ValueError):
        return None


def _tags(profile: bytes) -> dict[bytes, bytes]:
    (count,) = struct.unpack_from(">I", profile, 128)
    found = {}
    for number in range(min(count, 1000)):
        name, offset, size = struct.unpack_from(">4sII", profile, 132 + 12 * number)
        found[name] = profile[offset : offset + size]
    return found


def _xyz(tag: bytes) -> np.ndarray:
    if tag[:4] != b"XYZ ":
        raise ValueError("no XYZ")
    return np.array(struct.unpack_from(">3i", tag, 8)) / 65536


def _curve(tag: bytes) -> Curve:
    """From stored values to light, both from 0 to 1."""
    if tag[:4] == b"para":
        return _parametric(tag)
    if tag[:4] != b"curv":
        raise ValueError("no curve")
    (count,) = struct.unpack_from(">I", tag, 8)
    if count == 0:
        return power(1.0)
    points = np.array(struct.unpack_from(f">{count}H", tag, 12))
    if count == 1:
        return power(float(points[0]) / 256)
    return lambda value: np.interp(value, np.linspace(0, 1, count), points / 65535)


def _parametric(tag: bytes) -> Curve:
    """Y = (a X + b)^g + e from d on, and c X + f below; types 0 to 4 name the first 1, 3, 4, 5 or 7 of these."""
    (kind,) = struct.unpack_from(">H", tag, 8)
    values = [number / 65536 for number in struct.unpack_from(f">{_PARAMETERS[kind]}i", tag, 12)]
    g, a, b = (*values, 1.0, 0.0)[:3] if kind == 0 else values[:3]
    c = d = e = f = 0.0
    if kind in (1, 2):
        d = -b / a if a else 0.0
        e = f = values[3] if kind == 2 else 0.0
    elif kind >= 3:
        c, d = values[3:5]
        e, f = values[5:7] if kind == 4 else (0.0, 0.0)
    return lambda value: np.where(value >= d, np.maximum(a * value + b, 0) ** g + e, c * value + f).clip(0, 1)
