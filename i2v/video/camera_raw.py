"""Whether a file is a camera's raw file: DNG, NEF, CR2, ARW and their like.

Most are TIFF files whose first picture is a small preview. Pillow opens that one and does not look further.
"""

from __future__ import annotations

import io
import re
import struct
from typing import BinaryIO

_SIGNATURES = re.compile(
    rb"II\*\0....CR|II\x1a\0\0\0HEAP|IIR[OS]|MMOR|IIU\0|FUJIFILMCCD-RAW|FOVb|\0MRM|....ftypcrx ", re.DOTALL
)
_REDUCED, _PHOTOMETRIC, _SUB_DIRECTORIES, _DNG_VERSION = 254, 262, 330, 50706  # tags
_SENSOR_VALUES = {32803, 34892}  # photometric interpretations: a colour filter array, and linear raw
_SIZES = {1: "B", 3: "H", 4: "I", 13: "I"}  # field types that hold whole numbers
_MOST_DIRECTORIES = 32
_MOST_VALUES = 16


def is_camera_raw(file: BinaryIO) -> bool:
    """Whether `file`, read from its start, is one. Leaves it at its start."""
    head = file.read(16)
    try:
        return bool(_SIGNATURES.match(head)) or (head[:4] in (b"II*\0", b"MM\0*") and _holds_raw(file, head))
    except struct.error:  # cut off: whoever decodes it will say so
        return False
    finally:
        file.seek(0)


def _holds_raw(file: BinaryIO, head: bytes) -> bool:
    order = "<" if head[:2] == b"II" else ">"
    directories = []
    offsets = [struct.unpack(f"{order}I", head[4:8])[0]]
    seen = set()
    while offsets and len(directories) < _MOST_DIRECTORIES:
        offset = offsets.pop(0)
        if offset in seen or not offset:
            continue
        seen.add(offset)
        tags, following = _directory(file, order, offset)
        directories.append(tags)
        offsets += [*tags.get(_SUB_DIRECTORIES, ()), following]
    reduced = [bool(tags.get(_REDUCED, (0,))[0] & 1) for tags in directories]
    sensor = any(_SENSOR_VALUES & set(tags.get(_PHOTOMETRIC, ())) for tags in directories)
    preview_first = reduced[:1] == [True] and not all(reduced)
    return sensor or preview_first or any(_DNG_VERSION in tags for tags in directories[:1])


def _directory(file: BinaryIO, order: str, offset: int) -> tuple[dict[int, tuple[int, ...]], int]:
    """The tags of the directory at `offset` that matter here, and where the next one is."""
    file.seek(offset)
    count = struct.unpack(f"{order}H", file.read(2))[0]
    entries = file.read(12 * count)
    following = file.read(4)
    tags = {}
    for at in range(0, 12 * count, 12):
        tag, kind, values = struct.unpack_from(f"{order}HHI", entries, at)
        if tag not in (_REDUCED, _PHOTOMETRIC, _SUB_DIRECTORIES, _DNG_VERSION) or kind not in _SIZES:
            continue
        form = f"{order}{min(max(values, 1), _MOST_VALUES)}{_SIZES[kind]}"
        if struct.calcsize(form) <= 4:
            tags[tag] = struct.unpack_from(form, entries, at + 8)
        else:
            file.seek(struct.unpack_from(f"{order}I", entries, at + 8)[0], io.SEEK_SET)
            tags[tag] = struct.unpack(form, file.read(struct.calcsize(form)))
    return tags, struct.unpack(f"{order}I", following)[0] if len(following) == 4 else 0
