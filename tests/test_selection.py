"""One click selects what belongs together."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from i2v.video.selection import select

LAKE = Path(__file__).parents[1] / "tools" / "train_nano" / "drawn" / "lake.jpg"
SIZE = 320, 240
DISC = np.hypot(*(np.mgrid[:240, :320] - np.array([120, 200])[:, None, None])) < 80


def speckled(seed: int = 0) -> Image.Image:
    """A disc on a ground of another colour, both grainy."""
    grain = np.random.default_rng(seed).normal(0, 8, (240, 320, 3))
    colours = np.where(DISC[..., None], (190, 90, 60), (70, 110, 150))
    return Image.fromarray(np.clip(colours + grain, 0, 255).astype(np.uint8))


def shown(region: Image.Image) -> np.ndarray:
    return np.asarray(region.resize(SIZE)) / 255


def test_a_click_selects_the_thing_and_nothing_beside_it() -> None:
    for where in ((200 / 320, 0.5), (170 / 320, 0.6)):
        inside = shown(select(speckled(), *where))
        assert inside[DISC].mean() > 0.95
        assert inside[~DISC].mean() < 0.03
    ground = shown(select(speckled(), 0.1, 0.1))
    assert (ground[~DISC].mean() > 0.95, ground[DISC].mean() < 0.05) == (True, True)


def test_the_border_is_soft_and_the_same_click_gives_the_same() -> None:
    region = select(speckled(), 0.6, 0.5)
    assert (region.size, region.mode) == ((256, 192), "L")
    levels = np.asarray(region)
    assert 0.005 < ((levels > 20) & (levels < 235)).mean() < 0.1
    assert np.array_equal(levels, np.asarray(select(speckled(), 0.6, 0.5)))


def test_water_ends_at_the_shore() -> None:
    with Image.open(LAKE) as lake:
        water = np.asarray(select(lake, 0.5, 0.8)) / 255
    assert water[round(0.7 * 256) : round(0.85 * 256)].mean() > 0.8
    assert water[: round(0.5 * 256)].max() < 0.05


@pytest.mark.parametrize("place", [(0, 0), (1, 1), (1, 0), (0.5, 1)])
def test_every_place_of_any_picture_selects_at_least_itself(place: tuple[float, float]) -> None:
    rng = np.random.default_rng(1)
    noise = Image.fromarray(rng.integers(0, 256, (60, 90, 3), np.uint8))
    for picture in (noise, Image.new("RGB", (500, 300), "red"), Image.new("RGB", (1, 1)), Image.new("L", (900, 3))):
        region = np.asarray(select(picture, *place))
        row, column = (min(int(at * side), side - 1) for at, side in zip(place[::-1], region.shape, strict=True))
        assert region[row, column] > 100


@pytest.mark.parametrize("place", [(-0.1, 0.5), (0.5, 1.01), (float("nan"), 0.5)])
def test_a_place_outside_is_no_place(place: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="no place"):
        select(speckled(), *place)


def test_the_library_is_imported_by_the_first_click_only() -> None:
    words = "import sys, i2v.video.selection; sys.exit('cv2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", words], check=False).returncode == 0
