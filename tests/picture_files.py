"""Picture files that Pillow cannot write itself: 16-bit RGB PNG, headers without a body, small ICC profiles, what PNG
and AVIF say of their colours, raw files."""

from __future__ import annotations

import io
import random
import struct
import zlib

import numpy as np
from PIL import Image

_D50 = (0.9642, 1.0, 0.8249)
ADOBE_GAMMA = 563 / 256
# Adobe RGB (1998) and sRGB primaries adapted to D50, columns R G B (as in their published ICC profiles).
ADOBE_TO_XYZ = np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])
SRGB_TO_XYZ = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])


def png(width: int, height: int, *, bits: int, colour_type: int, rows: bytes | None) -> bytes:
    """A PNG with raw `rows` (each with its filter byte), or without any picture data when None."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0))
    body = b"" if rows is None else chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b"")


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(picture: Image.Image, *chunks: bytes) -> bytes:
    """`picture` as a PNG with `chunks` before its pixels."""
    written = io.BytesIO()
    picture.save(written, "PNG")
    header, rest = written.getvalue()[:33], written.getvalue()[33:]
    return header + b"".join(chunks) + rest


def gama(value: float) -> bytes:
    """A gAMA chunk."""
    return chunk(b"gAMA", struct.pack(">I", round(value * 100_000)))


def chrm(*xy: float) -> bytes:
    """A cHRM chunk: x and y of white, red, green and blue."""
    return chunk(b"cHRM", struct.pack(">8I", *(round(value * 100_000) for value in xy)))


def cicp(primaries: int, transfer: int, matrix: int = 0, full_range: int = 1) -> bytes:
    """A cICP chunk, by the codes of H.273."""
    return chunk(b"cICP", bytes((primaries, transfer, matrix, full_range)))


def iccp(profile: bytes) -> bytes:
    """An iCCP chunk."""
    return chunk(b"iCCP", b"name\0\0" + zlib.compress(profile))


def avif_nclx(picture: Image.Image, primaries: int, transfer: int) -> bytes:
    """`picture` as an AVIF file that names its colours by these codes of H.273."""
    written = io.BytesIO()
    picture.save(written, "AVIF", quality=100, subsampling="4:4:4")
    before, mark, after = written.getvalue().partition(b"colrnclx")
    return before + mark + struct.pack(">HH", primaries, transfer) + after[4:]


def bmp_with_profile(picture: Image.Image, profile: bytes) -> bytes:
    """`picture` ("RGB") as a BMP file of version 5 with its profile embedded."""
    written = io.BytesIO()
    picture.save(written, "BMP")
    pixels = written.getvalue()[54:]
    header = struct.pack("<IiiHHIIiiII", 124, *picture.size, 1, 24, 0, len(pixels), 2835, 2835, 0, 0) + bytes(16)
    header += b"DEBM" + bytes(48) + struct.pack("<4I", 4, 124 + len(pixels), len(profile), 0)
    size = 14 + len(header) + len(pixels) + len(profile)
    return b"BM" + struct.pack("<IHHI", size, 0, 0, 14 + len(header)) + header + pixels + profile


def tiff(*directories: dict[int, int], order: str = "<") -> bytes:
    """A TIFF file of directories that hold whole numbers, each with the next one as its SubIFD."""
    data = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    for number, tags in enumerate(directories):
        entries = dict(tags)
        following = len(data) + 2 + 12 * (len(entries) + 1) + 4
        if number + 1 < len(directories):
            entries[330] = following
        data += struct.pack(f"{order}H", len(entries))
        for tag, value in sorted(entries.items()):
            data += struct.pack(f"{order}HHII", tag, 4, 1, value)
        data += bytes(4) + (b"" if number + 1 < len(directories) else bytes(64))
        data = data.ljust(following if number + 1 < len(directories) else len(data), b"\0")
    return data


def png16(pixels: np.ndarray) -> bytes:
    """(H, W, C) uint16 as a 16-bit PNG: grey, grey and alpha, RGB, or RGB and alpha."""
    height, width, channels = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    return png(width, height, bits=16, colour_type={1: 0, 2: 4, 3: 2, 4: 6}[channels], rows=rows)


def adobe_rgb_profile(private_bytes: int = 0) -> bytes:
    """A display profile with Adobe RGB's primaries and gamma, and so many bytes that are only its maker's."""
    curve = b"curv" + struct.pack(">IIH", 0, 1, round(ADOBE_GAMMA * 256)) + b"\0\0"
    columns = {name: _xyz(*ADOBE_TO_XYZ[:, i]) for i, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    tags = {**columns, b"rTRC": curve, b"gTRC": curve, b"bTRC": curve}
    if private_bytes:
        tags[b"priv"] = b"data" + bytes(4) + random.Random(0).randbytes(private_bytes)
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags)


def tiff16(pixels: np.ndarray, order: str = "<") -> bytes:
    """(H, W, 3) uint16 as a TIFF file of 16 bits, not compressed."""
    height, width, _ = pixels.shape
    data = pixels.astype(f"{order}u2").tobytes()
    tags = {256: width, 257: height, 259: 1, 262: 2, 277: 3, 278: height, 279: len(data)}
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    bits = 8 + 2 + 12 * (len(tags) + 2) + 4
    directory = struct.pack(f"{order}H", len(tags) + 2)
    for tag, value in sorted({**tags, 258: bits, 273: bits + 6}.items()):
        kind, count = (3, 3) if tag == 258 else (4, 1)
        directory += struct.pack(f"{order}HHII", tag, kind, count, value)
    return head + directory + bytes(4) + struct.pack(f"{order}3H", 16, 16, 16) + data


def grey_ink_profile() -> bytes:
    """A printer profile whose cyan, magenta and yellow are all the same neutral ink: each takes a third of the
    lightness, black takes all. No converter arrives at such colours without reading the profile."""
    points = bytearray()
    for c, m, y, k in np.ndindex(2, 2, 2, 2):
        lightness = (1 - (c + m + y) / 3) * (1 - k)
        points += bytes((round(255 * lightness), 128, 128))
    identity = struct.pack(">9i", *(65536 if i % 4 == 0 else 0 for i in range(9)))
    ramp = bytes(range(256))
    table = b"mft1" + struct.pack(">IBBBB", 0, 4, 3, 2, 0) + identity + ramp * 4 + bytes(points) + ramp * 3
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": table})


def _xyz(x: float, y: float, z: float) -> bytes:
    return b"XYZ " + struct.pack(">Iiii", 0, *(round(value * 65536) for value in (x, y, z)))


def _profile(kind: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    name = b"test\0"
    description = b"desc" + struct.pack(">II", 0, len(name)) + name + bytes(4 + 4 + 2 + 1 + 67)
    tags = {b"desc": description, b"cprt": b"text" + bytes(4) + b"none\0", b"wtpt": _xyz(*_D50), **tags}
    table, body, offset = b"", b"", 128 + 4 + 12 * len(tags)
    for tag, data in tags.items():
        padded = data + bytes(-len(data) % 4)
        table += tag + struct.pack(">II", offset + len(body), len(data))
        body += padded
    size = offset + len(body)
    header = struct.pack(">I4sI4s4s4s", size, b"", 0x02400000, kind, space, connection)
    header += struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + _xyz(*_D50)[8:]
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body
