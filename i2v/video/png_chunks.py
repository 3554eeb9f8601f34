"""A PNG file reduced to what makes its picture.

Pillow reads every chunk, and refuses the whole file for a long text or a wrong check sum in one that no pixel depends
on. Editors store whole projects there. So it gets the chunks that the picture is made of, and nothing else.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import BinaryIO

from i2v.video.stated_colours import StatedColours, of_png

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOURS = (b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"cLLI", b"mDCV")
_KEPT = (b"tRNS", b"eXIf")  # besides the critical ones, whose names begin with a capital letter
_END = struct.pack(">I4sI", 0, b"IEND", zlib.crc32(b"IEND"))
_MOST_COLOUR_BYTES = 64 * 2**20  # of a chunk about colours, and of a profile unpacked
_EXIF_BYTES = 2**20


def read_png(file: BinaryIO) -> tuple[io.BytesIO, StatedColours]:
    """The reduced file, made whole where `file` ends without an end mark or within a chunk, and what it says of its
    colours."""
    picture, stated = io.BytesIO(), {}
    picture.write(file.read(len(SIGNATURE)))
    before_pixels = True
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"IEND":
            break
        before_pixels = before_pixels and kind != b"IDAT"
        if kind in _COLOURS and before_pixels and kind not in stated and length <= _MOST_COLOUR_BYTES:
            content = file.read(length)
            if _sound(kind, content, file.read(4)):
                stated[kind] = content
        elif kind in _KEPT and length <= _EXIF_BYTES:
            content = file.read(length)
            check = file.read(4)
            if _sound(kind, content, check):
                picture.write(head + content + check)
        elif kind[:1].isupper():
            content = file.read(length)
            check = file.read(4)
            if len(check) < 4:  # the file ends here: what is there of the chunk may be all that the picture needs
                head = struct.pack(">I4s", len(content), kind)
                check = struct.pack(">I", zlib.crc32(kind + content))
            picture.write(head + content + check)
        else:
            file.seek(length + 4, io.SEEK_CUR)
    picture.write(_END)
    picture.seek(0)
    return picture, of_png(stated, _profile(stated.get(b"iCCP", b"")))


def _sound(kind: bytes, content: bytes, check: bytes) -> bool:
    return check == struct.pack(">I", zlib.crc32(kind + content))


def _profile(content: bytes) -> bytes | None:
    """The ICC profile in an iCCP chunk: a name, a zero, the method, and the profile packed."""
    _, _, packed = content.partition(b"\0")
    if packed[:1] != b"\0":
        return None
    try:
        return zlib.decompressobj().decompress(packed[1:], _MOST_COLOUR_BYTES) or None
    except zlib.error:
        return None
