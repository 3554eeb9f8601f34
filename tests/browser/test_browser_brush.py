"""Chromium paints what should move in a photograph, and nothing else moves in the video."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from page_server import PageServer, page_server
from PIL import ImageFilter
from playwright.sync_api import Page, expect
from tab import Tab, picture_of

from i2v.models.entry import ASSETS
from i2v.video import region
from tests.photos import photograph

EXAMPLES = ASSETS / "examples"
SIZE = 96, 152  # of the video, in pixels
LEVELS = 1.0  # of 255: more than the video's own encoding changes of a pixel that stands still, on average


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageServer]:
    with page_server(tmp_path_factory.mktemp("brush")) as running:
        yield running


def drag(page: Page, *places: tuple[float, float]) -> None:
    """Along `places` of the photograph, each 0 to 1 of its sides; a click where there is only one."""
    over = page.locator("#i2v-brush-over")
    over.scroll_into_view_if_needed()
    box = over.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + places[0][0] * box["width"], box["y"] + places[0][1] * box["height"])
    page.mouse.down()
    for x, y in places[1:]:
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=4)
    page.mouse.up()


def frames_of(video: Path) -> np.ndarray:
    """All frames, (F, H, W, 3)."""
    reader, frames = cv2.VideoCapture(str(video)), []
    while (read := reader.read())[0]:
        frames.append(read[1].astype(float))
    return np.stack(frames)


def test_what_was_brushed_moves_and_nothing_else(tab: Tab, server: PageServer) -> None:
    """A real run of the bundled model, the smallest that shows it."""
    page, painted, way = tab.page, tab.page.locator("#i2v-region textarea"), tab.page.locator("#i2v-way textarea")
    expect(page.locator("#i2v-brush-toggle")).to_be_hidden()  # there is nothing to brush on
    page.set_input_files("#i2v-picture input[type=file]", photograph("tower.jpg"))
    page.click("#i2v-brush-toggle")
    expect(page.locator("#i2v-brush-toggle")).to_have_attribute("aria-pressed", "true")

    # A click selects the sky beside the tower.
    drag(page, (0.15, 0.3))
    expect(painted).not_to_have_value("")
    sky = np.asarray(region.read(painted.input_value()).resize((100, 160))) / 255
    assert sky[20:90, 3:25].min() > 0.9
    assert sky[20:, 57:].max() < 0.1  # from the middle of the tower on
    page.click("#i2v-brush-undo")
    expect(painted).to_have_value("")

    # A stroke over the foot of the tower, and the way to go.
    page.click("#i2v-brush-larger")
    drag(page, (0.25, 0.75), (0.75, 0.75))
    expect(painted).not_to_have_value("")
    page.click("#i2v-brush-way")
    drag(page, (0.3, 0.75), (0.6, 0.75))
    expect(way).to_have_value(re.compile(r"1\.0000,-?0\.0000"))
    picture_of(page, "brush")

    page.fill("#i2v-prompt textarea", "the water flows")
    tab.unfold()
    for name, value in {"width": SIZE[0], "height": SIZE[1], "frames": 6, "steps": 3, "fps": 6}.items():
        page.fill(f"#i2v-{name} input", str(value))
    page.click("#i2v-generate")
    expect(page.locator("#i2v-stage video")).to_be_visible()
    (video,) = (server.folder / "outputs").glob("????-??-??/*/video.mp4")
    asked = json.loads((video.parent / "request.json").read_text())
    assert (asked["region"], asked["way"]) == (painted.input_value(), [1, 0])
    mask = region.fit_region(region.read(asked["region"]), *SIZE, asked["fit"])
    frames = frames_of(video)
    changed = np.abs(frames - frames[0]).mean(-1).max(0)
    outside = changed[np.asarray(mask.filter(ImageFilter.MaxFilter(9))) == 0]
    inside = changed[np.asarray(mask) > 200]
    assert outside.size > 0.3 * changed.size
    assert outside.mean() < LEVELS
    assert inside.mean() > 10 * LEVELS

    # Another photograph has nothing painted on it.
    page.click("#i2v-example-mountains")
    expect(painted).to_have_value("")
    expect(way).to_have_value("")


def test_what_the_model_sees_is_shown_and_painting_begins_from_it(tab: Tab, server: PageServer) -> None:
    page, painted, seen = tab.page, tab.page.locator("#i2v-region textarea"), tab.page.locator("#i2v-proposal textarea")
    page.set_input_files("#i2v-picture input[type=file]", EXAMPLES / "mountains.jpg")
    page.fill("#i2v-prompt textarea", "clouds drift")
    expect(seen).not_to_have_value("")
    expect(page.locator("#i2v-brush-over")).to_be_visible()
    picture_of(page, "proposal")
    sky = np.asarray(region.read(seen.input_value()).resize((100, 100))) / 255
    assert sky[:10].mean() > 0.9
    assert sky[70:].mean() < 0.1
    expect(painted).to_have_value("")  # what is only seen is not asked for

    page.click("#i2v-brush-toggle")
    page.click("#i2v-brush-erase")
    drag(page, (0.0, 0.1), (0.5, 0.1))
    expect(painted).not_to_have_value("")
    kept = np.asarray(region.read(painted.input_value()).resize((100, 100))) / 255
    assert kept[8:12, 5:40].max() < 0.1
    assert kept[8:12, 65:].min() > 0.9
    assert kept[70:].mean() < 0.1
    picture_of(page, "proposal_painted_over")

    # Without what was painted the proposal is shown again, and a sentence of nothing in the picture takes it away.
    page.click("#i2v-brush-undo")
    expect(painted).to_have_value("")
    expect(seen).not_to_have_value("")
    page.fill("#i2v-prompt textarea", "the water flows")
    expect(seen).to_have_value("")
    expect(page.locator("#i2v-brush-over.i2v-on")).to_be_visible()
