"""JPEG files without their end mark: whole ones are told from cut ones."""

from __future__ import annotations

import io
import random
import re

from PIL import Image, ImageChops

_END = b"\xff\xd9"
_FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}  # kinds of frame header
_SCAN = 0xDA
_RESTART = re.compile(rb"\xff([\xd0-\xd7])")
_NEXT_SEGMENT = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")
_COEFFICIENTS = 64  # of a block


def with_end_mark(data: bytes) -> io.BytesIO | None:
    """The JPEG file `data` with an end mark, where every block of its picture is there; None where it is cut.

    The decoder fills what is missing with grey and does not say so. But if other data is put before the end mark, it
    changes the picture only where something is missing.
    """
    whole = io.BytesIO(data + _END)
    try:
        if not _all_scans_begun(data):
            return None
        with Image.open(whole, formats=("JPEG",)) as one, Image.open(_continued(data), formats=("JPEG",)) as other:
            one.load()
            other.load()
            differs = ImageChops.difference(one, other).getbbox(alpha_only=False)
    except Exception:  # on damaged data the decoder raises whatever it happens to run into
        return None
    whole.seek(0)
    return None if differs else whole


def _all_scans_begun(data: bytes) -> bool:
    """Whether the scans in `data`, which ends within the last of them, bring every coefficient to its full precision:
    a progressive file comes in many scans. Raises IndexError where a segment is cut."""
    at, components, missing_bits = 2, 0, {}
    while (found := _NEXT_SEGMENT.search(data, at)) is not None:
        kind, at = data[found.end() - 1], found.end()
        if kind in _FRAMES:
            components = data[at + 7]
        elif kind == _SCAN:
            count = data[at + 2]
            first, last, precision = data[at + 3 + 2 * count : at + 6 + 2 * count]
            for number in range(count):
                component = data[at + 3 + 2 * number]
                missing_bits |= {(component, k): precision & 15 for k in range(first, last + 1)}
        at += int.from_bytes(data[at : at + 2])
        if at > len(data):
            return False
    return len(missing_bits) == components * _COEFFICIENTS and not any(missing_bits.values())


def _continued(data: bytes) -> io.BytesIO:
    """`data` with noise after it, and restart marks, since some files are divided by them."""
    noise = random.Random(0).randbytes(4096).replace(b"\xff", b"\x5a")
    marks = _RESTART.findall(data)
    coming = marks[-1][0] + 1 if marks else 0
    divided = b"".join(bytes((0xFF, 0xD0 + (coming + number) % 8)) + noise[:512] for number in range(16))
    return io.BytesIO(data.rstrip(b"\xff") + noise + divided + _END)
