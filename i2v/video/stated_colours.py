"""What a picture file says of its colours besides a profile: PNG's chunks, AVIF's nclx box; and the
profile in a BMP file, which Pillow does not read.

Read as the PNG specification's third edition and Chromium do. What is impossible counts as not said.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from i2v.video.colours import (
    CURVES,
    SRGB_PRIMARIES,
    ColourSpace,
    Primaries,
    coded_space,
    power,
    srgb_light,
    to_xyz,
)

SRGB = ColourSpace(SRGB_PRIMARIES, srgb_light)
_SRGB_GAMMA = 0.45455
_GAMMA_TOLERANCE = 0.05  # libpng's: a gamma this near to sRGB's is meant as sRGB
_MOST_PROFILE_BYTES = 64 * 2**20
_UNSAID, _CAMERA_CURVES = 2, (1, 6, 14, 15)  # codes of H.273


@dataclass(frozen=True)
class StatedColours:
    """`over` counts more than a profile, and `under` where there is no profile that can be used."""

    over: ColourSpace | None = None
    profile: bytes | None = None
    under: ColourSpace | None = None


def of_png(chunks: dict[bytes, bytes], profile: bytes | None) -> StatedColours:
    """By the chunks cICP, sRGB, gAMA and cHRM, in this order; `profile` is what iCCP holds. How bright an HDR picture
    gets is told by cLLI, or by mDCV of the screen that it was made on."""
    under = SRGB if b"sRGB" in chunks else _by_gamma(chunks.get(b"gAMA", b""), chunks.get(b"cHRM", b""))
    light, display = chunks.get(b"cLLI", b""), chunks.get(b"mDCV", b"")
    peak_nits = _number(light, 0) / 10_000 or _number(display, 16) / 10_000
    return StatedColours(_by_cicp(chunks.get(b"cICP", b""), peak_nits), profile, under)


def _by_cicp(data: bytes, peak_nits: float) -> ColourSpace | None:
    """None too for what no PNG may say: another matrix than RGB's, and values of limited range, which no viewer
    expands."""
    if len(data) != 4 or data[2:] != b"\0\1":
        return None
    return coded_space(data[0], data[1], peak_nits)


def _by_gamma(gamma: bytes, chromaticities: bytes) -> ColourSpace | None:
    """cHRM alone says nothing: without gAMA the curve is not known."""
    value = _number(gamma, 0) / 100_000
    if not value:
        return None
    if len(chromaticities) == 32:
        primaries: Primaries = tuple(number / 100_000 for number in struct.unpack(">8I", chromaticities))  # type: ignore[assignment]
        return ColourSpace(primaries, power(1 / value)) if to_xyz(primaries) is not None else None
    if abs(value / _SRGB_GAMMA - 1) <= _GAMMA_TOLERANCE:
        return SRGB
    return ColourSpace(SRGB_PRIMARIES, power(1 / value))


def _number(data: bytes, at: int) -> int:
    """The 32 bits at `at`; 0 where `data` does not go so far."""
    return int.from_bytes(data[at : at + 4]) if len(data) >= at + 4 else 0


def of_avif(data: bytes) -> StatedColours:
    """By the nclx box of the primary item; `data` is the file, or as much of it as holds its `meta` box."""
    try:
        owned = _properties(data)
        primaries, transfer = struct.unpack(">HH", next(box[4:8] for box in owned[b"colr"] if box[:4] == b"nclx"))
        peak_nits = next((int.from_bytes(box[:2]) for box in owned.get(b"clli", ())), 0)
    except (struct.error, IndexError, KeyError, StopIteration):  # none, or cut: the decoder has its own word on that
        return StatedColours()
    # What is left open is sRGB's; so are the curves of cameras, which pictures name and do not use.
    primaries = 1 if primaries == _UNSAID else primaries
    transfer = 13 if transfer in (_UNSAID, *_CAMERA_CURVES) else transfer
    return StatedColours(under=coded_space(primaries, transfer, peak_nits) if transfer in CURVES else None)


def of_bmp(header: bytes, file: BinaryIO) -> StatedColours:
    """The profile embedded in a BMP file of version 5, whose first bytes are `header`."""
    if len(header) < 138 or _little(header, 14) < 124 or header[70:74] != b"DEBM":  # "MBED", low byte first
        return StatedColours()
    offset, length = _little(header, 126), _little(header, 130)
    file.seek(14 + offset)
    return StatedColours(profile=file.read(min(length, _MOST_PROFILE_BYTES)) or None)


def _little(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")


def _properties(data: bytes) -> dict[bytes, list[bytes]]:
    """The primary item's properties by their kind: the content of its boxes."""
    meta = _inside(data, b"meta", 4)
    properties = _inside(meta, b"iprp")
    boxes = list(_boxes(_inside(properties, b"ipco")))
    owned: dict[bytes, list[bytes]] = {}
    for number in _associated(_inside(properties, b"ipma"), _primary(_inside(meta, b"pitm"))):
        if 0 < number <= len(boxes):
            kind, content = boxes[number - 1]
            owned.setdefault(kind, []).append(content)
    return owned


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The boxes of ISO/IEC 14496-12 that `data` is made of: kind and content."""
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        head = 8
        if size == 1:
            size, head = struct.unpack(">Q", data[at + 8 : at + 16])[0], 16
        elif size == 0:
            size = len(data) - at
        if size < head:
            return
        yield kind, data[at + head : at + size]
        at += size


def _inside(data: bytes, wanted: bytes, skipped: int = 0) -> bytes:
    """The first `wanted` box's content, but for its first bytes; empty where there is none."""
    return next((content[skipped:] for kind, content in _boxes(data) if kind == wanted), b"")


def _primary(pitm: bytes) -> int:
    return struct.unpack(">H", pitm[4:6])[0] if pitm[0] == 0 else struct.unpack(">I", pitm[4:8])[0]


def _associated(ipma: bytes, item: int) -> list[int]:
    """The numbers, from 1, of the properties of `item`."""
    version, wide = ipma[0], ipma[3] & 1
    count, at = struct.unpack(">I", ipma[4:8])[0], 8
    for _ in range(count):
        form = ">HB" if version == 0 else ">IB"
        named, properties = struct.unpack_from(form, ipma, at)
        at += struct.calcsize(form)
        numbers = struct.unpack_from(f">{properties}{'H' if wide else 'B'}", ipma, at)
        at += properties * (2 if wide else 1)
        if named == item:
            return [number & (0x7FFF if wide else 0x7F) for number in numbers]
    return []
