"""Chromium shows a finished video in the colours that the file will have: its own filters are the oracle."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from page_server import page_server
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from tab import Tab
from tabs_support import finish, resting_service

from i2v.video.look import Look
from i2v.video.reencode import reencode

LOOKS = (Look(brightness=0.6), Look(contrast=1.5, saturation=0.4), Look(warmth=0.8), Look(1.2, 1.3, 1.6, -0.5))


@pytest.fixture
def page(chromium: Browser, tmp_path: Path) -> Iterator[Page]:
    """The gallery with one video of two frames opened, resting at its beginning."""
    with resting_service(tmp_path) as service:
        finish(service, tmp_path)
    with page_server(tmp_path) as server:
        tab = Tab.new(chromium, viewport={"width": 1280, "height": 1000})
        page = tab.page
        page.goto(server.url)
        page.get_by_role("tab", name="Gallery").click()
        page.locator(".i2v-video-card").click()
        page.wait_for_function("document.querySelector('#i2v-gallery-detail video')?.readyState >= 2")
        page.evaluate(
            """() => new Promise(done => {
              const video = document.querySelector("#i2v-gallery-detail video");
              video.pause(), video.controls = false, video.loop = false;
              video.addEventListener("seeked", done, { once: true });
              video.currentTime = 0;
            })"""
        )
        yield page
        tab.close()


def colours(picture: Image.Image) -> np.ndarray:
    """The mean colour of each ninth of the square in the middle: beside it the page may be seen."""
    side, left = picture.height, (picture.width - picture.height) // 2
    picture = picture.crop((left, 0, left + side, side))
    return np.asarray(picture.convert("RGB").resize((3, 3), Image.Resampling.BOX), float)


def test_a_look_is_shown_as_it_is_written(page: Page, tmp_path: Path) -> None:
    (video,) = (tmp_path / "outputs").glob("????-??-??/*/video.mp4")
    shown = page.locator("#i2v-gallery-detail video")
    page.locator("#i2v-gallery-export > button").click()
    # Eight times its own size: a part of a pixel has other colours at every edge than the file.
    size = "width: ${8 * video.videoWidth}px; height: ${8 * video.videoHeight}px; max-width: none; max-height: none"
    shown.evaluate(f"video => {{ video.style.cssText += `;{size}` }}")
    as_made = colours(Image.open(io.BytesIO(shown.screenshot())))
    for number, look in enumerate(LOOKS):
        for name, value in asdict(look).items():
            field = page.locator(f"#i2v-gallery-{name} input[type=number]")
            field.fill(f"{value:g}")
            field.press("Tab")
        wanted = f"brightness({look.brightness:g}) contrast({look.contrast:g}) saturate({look.saturation:g})"
        page.wait_for_function(
            "([warm, rest]) => { const filter = document.querySelector('#i2v-gallery-detail video').style.filter;"
            " return filter.endsWith(rest) && filter.includes('url') === warm; }",
            arg=[look.warmth != 0, wanted],
        )
        seen = colours(Image.open(io.BytesIO(shown.screenshot())))
        target = tmp_path / f"{number}.webp"
        reencode(video, target, fps=8, format="webp", quality="best", look=look)
        with Image.open(target) as file:
            written = colours(file)
        # Compression is off by a few of 255 without any look; the look enlarges that.
        enlarged = max(1, look.brightness) * max(1, look.contrast) * max(1, look.saturation)
        assert np.abs(seen - written).max() < 4 * enlarged, look
        assert np.abs(seen - as_made).max() > 15, look
    page.click("#i2v-gallery-as-made")
    page.wait_for_function("document.querySelector('#i2v-gallery-detail video').style.filter === ''")
    page.fill("#i2v-gallery-saturation input[type=number]", "0")
    page.locator("#i2v-gallery-saturation input[type=number]").press("Tab")
    page.click("#i2v-gallery-write")
    expect(page.locator("#i2v-gallery-link a")).to_contain_text("saturation0.gif")
