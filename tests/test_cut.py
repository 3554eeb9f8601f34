"""The part of the photograph that is used: what is shown is what the engine is given."""

from __future__ import annotations

import base64
import io
import re
from typing import Any

import numpy as np
import pytest
from PIL import Image

from i2v.messages import LOCALES
from i2v.request import FITS
from i2v.ui.create.cut import ACROSS, DOWN, shown_cut, thumbnail_of
from i2v.video.picture import fit_picture

# Red grows to the right and green downwards: a colour says where in the picture it comes from.
ACROSS_RED = np.broadcast_to(np.linspace(0, 255, 300, dtype=np.uint8), (200, 300))
DOWN_GREEN = np.broadcast_to(np.linspace(0, 255, 200, dtype=np.uint8)[:, None], (200, 300))
MAP = Image.fromarray(np.dstack([ACROSS_RED, DOWN_GREEN, np.zeros((200, 300), np.uint8)]))


def ends(picture: Image.Image) -> list[float]:
    """Where in MAP the edges of `picture` lie: left, top, right, bottom as shares."""
    pixels = np.asarray(picture, float) / 255
    return [pixels[:, 0, 0].mean(), pixels[0, :, 1].mean(), pixels[:, -1, 0].mean(), pixels[-1, :, 1].mean()]


@pytest.mark.parametrize(
    ("fit", "size", "kept"),
    [
        ("crop", (100, 100), [1 / 6, 0, 5 / 6, 1]),
        ("crop_left", (100, 100), [0, 0, 2 / 3, 1]),
        ("crop_right", (100, 100), [1 / 3, 0, 1, 1]),
        ("crop_top", (100, 100), [1 / 6, 0, 5 / 6, 1]),  # nothing is cut above: the middle
        ("crop_top", (300, 100), [0, 0, 1, 0.5]),
        ("crop", (300, 100), [0, 0.25, 1, 0.75]),
        ("crop_bottom", (300, 100), [0, 0.5, 1, 1]),
        ("crop_left", (300, 100), [0, 0.25, 1, 0.75]),
    ],
)
def test_the_part_at_the_edge_is_kept_and_the_frame_shows_it(
    fit: Any, size: tuple[int, int], kept: list[float]
) -> None:
    np.testing.assert_allclose(ends(fit_picture(MAP, *size, fit)), kept, atol=0.02)
    html, choice = shown_cut("en", thumbnail_of(MAP), *size, fit)
    left, top, width, height = (
        float(re.search(rf"{name}:([\d.]+)%", html)[1]) for name in ("left", "top", "width", "height")
    )
    np.testing.assert_allclose([left, top, left + width, top + height], 100 * np.array(kept), atol=0.02)
    fits = [value for _, value in choice["choices"]]
    assert fits == list(ACROSS if size == (100, 100) else DOWN)
    assert choice.get("value", fit) == (fit if fit in fits else "crop")


@pytest.mark.parametrize("fit", FITS)
def test_any_shape_has_its_exact_size(fit: Any) -> None:
    for size in ((1, 997), (997, 1), (333, 77), (1024, 1024)):
        assert fit_picture(Image.new("RGB", size), 64, 40, fit).size == (64, 40)


def test_with_its_edges_filled_it_is_shown_as_it_will_be() -> None:
    html, choice = shown_cut("zh-CN", thumbnail_of(MAP), 100, 100, "pad")
    shown = Image.open(io.BytesIO(base64.b64decode(re.search(r"base64,([^\"]+)", html)[1])))
    assert shown.size == (320, 320)
    expected = np.asarray(fit_picture(MAP, 320, 320, "pad"), float)
    assert np.abs(np.asarray(shown, float) - expected).mean() < 4
    assert [label for label, _ in choice["choices"]] == ["左侧", "中间", "右侧", "整张，补边"]


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("size", [(300, 200), (304, 200), (None, 64), ("<b>", 64), (0, 0), (64, -1)])
def test_where_nothing_is_cut_there_is_nothing_to_choose(locale: str, size: tuple[Any, Any]) -> None:
    assert shown_cut(locale, thumbnail_of(MAP), *size, "crop")[0] == ""
    assert shown_cut(locale, "", 64, 64, "crop")[0] == ""
