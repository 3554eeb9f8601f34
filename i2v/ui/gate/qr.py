"""QR codes (ISO/IEC 18004) for short texts: byte mode, versions 1 to 6, and how one is drawn on a terminal.

All blocks of a symbol are of one length in these versions, and none carries its version number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Literal

Level = Literal["L", "M"]
Modules = tuple[tuple[bool, ...], ...]
"""The symbol by rows, True for dark; without the quiet zone."""

QUIET = 4  # light modules that the standard asks for on every side

# By level and version from 1: check bytes of a block, and blocks (table 9). All bytes of a symbol: table 1.
_BLOCKS: dict[Level, tuple[tuple[int, int], ...]] = {
    "L": ((7, 1), (10, 1), (15, 1), (20, 1), (26, 1), (18, 2)),
    "M": ((10, 1), (16, 1), (26, 1), (18, 2), (24, 2), (16, 4)),
}
_TOTAL = (26, 44, 70, 100, 134, 172)
_LEVEL_BITS: dict[Level, int] = {"L": 0b01, "M": 0b00}
_FRAMING_BITS = 4 + 8  # the mode and the count of bytes, before the text
_MASKS = (
    lambda y, x: (y + x) % 2 == 0,
    lambda y, x: y % 2 == 0,
    lambda y, x: x % 3 == 0,
    lambda y, x: (y + x) % 3 == 0,
    lambda y, x: (y // 2 + x // 3) % 2 == 0,
    lambda y, x: y * x % 2 + y * x % 3 == 0,
    lambda y, x: (y * x % 2 + y * x % 3) % 2 == 0,
    lambda y, x: ((y + x) % 2 + y * x % 3) % 2 == 0,
)


def capacity(version: int, level: Level) -> int:
    """The bytes of text that a symbol holds."""
    check, blocks = _BLOCKS[level][version - 1]
    return (8 * (_TOTAL[version - 1] - check * blocks) - _FRAMING_BITS) // 8


def encode(text: str, level: Level = "M") -> Modules:
    """The smallest symbol for `text` in UTF-8, under the mask with the least penalty. Raises ValueError for a text
    that none of these versions holds."""
    data = text.encode()
    version = next((v for v in range(1, len(_TOTAL) + 1) if len(data) <= capacity(v, level)), None)
    if version is None:
        raise ValueError(f"{len(data)} bytes are more than a symbol of these versions holds")
    bits = _bits(data, version, level)
    return min((_drawn(version, level, bits, mask) for mask in range(len(_MASKS))), key=penalty)


def half_blocks(modules: Modules) -> list[str]:
    """The symbol with its quiet zone as lines of text, two rows to a line: ink is dark, paper is light."""
    side = len(modules) + 2 * QUIET
    rows = [[False] * side for _ in range(side + side % 2)]
    for y, row in enumerate(modules):
        rows[y + QUIET][QUIET : QUIET + len(row)] = row
    glyphs = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}
    return ["".join(glyphs[pair] for pair in zip(*rows[y : y + 2], strict=True)) for y in range(0, len(rows), 2)]


def penalty(modules: Modules) -> int:
    """What the standard counts against a mask: runs, blocks, what looks like a finder, and an uneven share of dark."""
    lines = [*modules, *zip(*modules, strict=True)]
    size = len(modules)
    runs = sum(length - 2 for line in lines for length in _runs(line) if length >= 5)
    blocks = sum(
        modules[y][x] == modules[y][x + 1] == modules[y + 1][x] == modules[y + 1][x + 1]
        for y in range(size - 1)
        for x in range(size - 1)
    )
    finder = (True, False, True, True, True, False, True)
    light = (False,) * 4
    likenesses = sum(
        tuple(line[at : at + 11]) in ((*finder, *light), (*light, *finder)) for line in lines for at in range(size - 10)
    )
    dark = sum(map(sum, modules))
    return runs + 3 * blocks + 40 * likenesses + 10 * int(abs(20 * dark / size**2 - 10))


def _runs(line: Sequence[bool]) -> Iterator[int]:
    """The lengths of the runs of one colour."""
    length = 0
    for at, module in enumerate(line):
        if at and module != line[at - 1]:
            yield length
            length = 0
        length += 1
    yield length


def _bits(data: bytes, version: int, level: Level) -> list[bool]:
    """All bits of the symbol in the order in which they are placed: the blocks' bytes in turns, then their checks."""
    check, blocks = _BLOCKS[level][version - 1]
    room = _TOTAL[version - 1] - check * blocks
    # Mode 4 is bytes; four bits of end bring mode, count, text and end to whole bytes.
    stream = (0b0100 << 8 | len(data)) << 8 * len(data) | int.from_bytes(data, "big")
    framed = (stream << 4).to_bytes(len(data) + 2, "big")
    padded = framed + bytes((0xEC, 0x11)[at % 2] for at in range(room - len(framed)))
    length = room // blocks
    parts = [padded[at : at + length] for at in range(0, room, length)]
    checks = [_remainder(part, check) for part in parts]
    placed = [part[at] for group in (parts, checks) for at in range(len(group[0])) for part in group]
    return [bool(byte >> bit & 1) for byte in placed for bit in range(7, -1, -1)]


def _times(a: int, b: int) -> int:
    """The product in the field of 256 elements modulo x^8 + x^4 + x^3 + x^2 + 1."""
    product = 0
    while b:
        product ^= a * (b & 1)
        a, b = (a << 1) ^ (0x11D * (a >> 7)), b >> 1
    return product


def _remainder(data: bytes, length: int) -> list[int]:
    """The Reed-Solomon check bytes: `data` times x^length modulo (x - 1)(x - 2)(x - 4)..."""
    divisor, root = [1], 1
    for _ in range(length):
        shifted = [*divisor, 0]
        divisor = [a ^ _times(b, root) for a, b in zip(shifted, [0, *divisor], strict=True)]
        root = _times(root, 2)
    rest = [0] * length
    for byte in data:
        factor = byte ^ rest[0]
        rest = [a ^ _times(b, factor) for a, b in zip([*rest[1:], 0], divisor[1:], strict=True)]
    return rest


def _drawn(version: int, level: Level, bits: Sequence[bool], mask: int) -> Modules:
    size = 17 + 4 * version
    fixed = _fixed(version)
    _write_format(fixed, size, _LEVEL_BITS[level] << 3 | mask)
    rows = [[fixed.get((y, x), False) for x in range(size)] for y in range(size)]
    waiting = iter(bits)
    for y, x in _path(size):
        if (y, x) not in fixed:
            rows[y][x] = next(waiting, False) ^ _MASKS[mask](y, x)  # a few places are left over, and count as 0
    return tuple(map(tuple, rows))


def _fixed(version: int) -> dict[tuple[int, int], bool]:
    """The patterns by (row, column): finders with their light border, the alignment pattern, timing."""
    size = 17 + 4 * version
    fixed = {place: at % 2 == 0 for at in range(size) for place in ((6, at), (at, 6))}
    centres = [(3, 3, 4), (3, size - 4, 4), (size - 4, 3, 4), *([(size - 7, size - 7, 2)] if version > 1 else [])]
    for row, column, reach in centres:
        for y in range(-reach, reach + 1):
            for x in range(-reach, reach + 1):
                if 0 <= row + y < size and 0 <= column + x < size:
                    ring = max(abs(y), abs(x))
                    fixed[row + y, column + x] = ring not in ((1,) if reach == 2 else (2, 4))
    return fixed


def _write_format(fixed: dict[tuple[int, int], bool], size: int, value: int) -> None:
    """Level and mask, five bits with ten of BCH check (15, 5), twice; and the module that is always dark."""
    rest = reduce(lambda rest, _: rest << 1 ^ (rest >> 9) * 0x537, range(10), value)
    word = (value << 10 | rest) ^ 0x5412
    beside = [*((row, 8) for row in (0, 1, 2, 3, 4, 5, 7, 8)), *((8, column) for column in (7, 5, 4, 3, 2, 1, 0))]
    apart = [*((8, size - 1 - at) for at in range(8)), *((size - 15 + at, 8) for at in range(8, 15))]
    for places in (beside, apart):
        for at, place in enumerate(places):
            fixed[place] = bool(word >> at & 1)
    fixed[size - 8, 8] = True


def _path(size: int) -> Iterator[tuple[int, int]]:
    """The places in the order in which bits are laid: two columns at a time from the right, up and down in turns,
    past the column of the timing pattern."""
    upwards = True
    for right in [*range(size - 1, 6, -2), 5, 3, 1]:
        for y in range(size - 1, -1, -1) if upwards else range(size):
            yield y, right
            yield y, right - 1
        upwards = not upwards
