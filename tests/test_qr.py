"""QR codes: OpenCV's detector, which knows nothing of ours, reads what is drawn on the terminal."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from i2v.ui.gate.qr import QUIET, Level, capacity, encode, half_blocks, penalty

PIXELS = 8  # a module's side in the picture that is read
HOSTS = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(lambda address: f"[{address}]"),
    st.from_regex(r"[a-z]([a-z0-9-]{0,10}[a-z0-9])?(\.local)?", fullmatch=True),
)
URLS = st.builds("{}://{}:{}".format, st.sampled_from(("http", "https")), HOSTS, st.integers(1, 65535))


def photographed(lines: list[str]) -> np.ndarray:
    """The lines as ink on paper: (H, W) uint8, as a camera would see them."""
    tops = np.array([[char in "▀█" for char in line] for line in lines])
    bottoms = np.array([[char in "▄█" for char in line] for line in lines])
    dark = np.stack([tops, bottoms], axis=1).reshape(-1, tops.shape[1])
    return np.kron(np.where(dark, 0, 255).astype(np.uint8), np.ones((PIXELS, PIXELS), np.uint8))


def read(lines: list[str]) -> str:
    """What stands in the symbol. Its corners are told: the detector overlooks one in some hundred of its own too."""
    picture = photographed(lines)
    left, right = QUIET * PIXELS, picture.shape[1] - QUIET * PIXELS - 1
    corners = np.array([[[left, left], [right, left], [right, right], [left, right]]], np.float32)
    return cv2.QRCodeDetector().decode(picture, corners)[0]


@settings(max_examples=60)
@given(url=URLS, level=st.sampled_from(("L", "M")))
def test_the_address_on_the_terminal_is_read_back(url: str, level: Level) -> None:
    assert read(half_blocks(encode(url, level))) == url


@pytest.mark.parametrize("level", ["L", "M"])
@pytest.mark.parametrize("version", range(1, 7))
def test_every_version_full_to_the_last_byte_is_read_back(version: int, level: Level) -> None:
    full = "".join(chr(33 + 7 * at % 90) for at in range(capacity(version, level)))
    modules = encode(full, level)
    assert len(modules) == 17 + 4 * version
    assert read(half_blocks(modules)) == full


def test_capacities_are_those_of_the_standard() -> None:
    """Table 7 of ISO/IEC 18004, byte mode."""
    assert [capacity(version, "L") for version in range(1, 7)] == [17, 32, 53, 78, 106, 134]
    assert [capacity(version, "M") for version in range(1, 7)] == [14, 26, 42, 62, 84, 106]


@pytest.mark.parametrize("level", ["L", "M"])
def test_a_symbol_that_has_lost_a_corner_of_its_data_is_read_all_the_same(level: Level) -> None:
    """Only right check bytes let a reader mend it."""
    url = "http://192.168.100.200:7860"
    modules = [list(row) for row in encode(url, level)]
    size = len(modules)
    for y in range(size - 3, size):
        for x in range(size - 3, size):
            modules[y][x] = not modules[y][x]
    assert read(half_blocks(tuple(map(tuple, modules)))) == url


def test_a_text_too_long_is_refused_and_not_cut() -> None:
    with pytest.raises(ValueError, match="107"):
        encode("x" * 107, "M")


def test_the_penalty_counts_what_the_standard_counts() -> None:
    """By hand: a light square of 11 has 22 runs of 11 (9 each), 100 blocks (3 each), and is 0 % dark (100)."""
    assert penalty(((False,) * 11,) * 11) == 22 * 9 + 100 * 3 + 100
    # A chess board has nothing to count. In its middle row the finder's likeness, 40, and what that row adds beside.
    chess = tuple(tuple((y + x) % 2 == 0 for x in range(11)) for y in range(11))
    assert penalty(chess) == 0
    likeness = tuple(char == "#" for char in "# ### #    ")
    almost = tuple(char == "#" for char in "# ##  #    ")
    with_one, with_none = (penalty((*chess[:5], row, *chess[6:])) for row in (likeness, almost))
    assert with_one - with_none == 40


def test_two_rows_make_a_line_and_the_quiet_zone_is_paper() -> None:
    lines = half_blocks(encode("http://10.0.0.1:7860"))
    assert {len(line) for line in lines} == {25 + 8}
    assert len(lines) == (25 + 8 + 1) // 2
    assert set(lines[0] + lines[1]) == {" "}
    assert all(line.startswith(" " * 4) and line.endswith(" " * 4) for line in lines)
