"""Finishing on the page: asked for, seen, done again otherwise, and undone."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from page_server import PageServer, page_server
from playwright.sync_api import Page, expect
from tab import Tab, picture_of

from i2v.finishing.offers import REPORT


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageServer]:
    with page_server(tmp_path_factory.mktemp("finishing")) as running:
        yield running


def shown_size(page: Page, where: str) -> list[int]:
    """Of the video that plays there."""
    page.wait_for_function(f"document.querySelector('{where} video')?.videoWidth > 0")
    return page.locator(f"{where} video").evaluate("video => [video.videoWidth, video.videoHeight]")


def open_newest(page: Page) -> None:
    """In the gallery, once there are as many videos."""
    page.locator("#i2v-gallery-grid [data-act=open]").first.click()
    expect(page.locator("#i2v-opened")).to_be_visible()


def test_a_video_is_finished_and_finished_again_and_undone(tab: Tab, server: PageServer) -> None:
    page = tab.page
    page.locator("#i2v-finishing > button").click()
    page.locator("#i2v-deflicker input").check()
    page.locator("#i2v-interpolate").get_by_text("2×").click()
    page.locator("#i2v-upscale").get_by_text("2×").click()
    expect(page.locator("#i2v-plan")).to_contain_text("Finishing the frames takes about")
    picture_of(page, "finishing")
    tab.ask(steps=2, frames=8, width=96, height=64)
    expect(page.locator(".i2v-below")).to_contain_text("192 × 128, 15 frames, 16 per second")
    assert shown_size(page, "#i2v-stage") == [192, 128]

    page.get_by_role("tab", name="Gallery").click()
    open_newest(page)
    page.locator("#i2v-gallery-finish > button").click()
    expect(page.locator("#i2v-gallery-finish-told")).to_contain_text("The light was steady already")
    expect(page.locator("#i2v-gallery-finish-told")).to_contain_text("7 frames made between the others")
    expect(page.locator("#i2v-gallery-deflicker input")).to_be_checked()
    expect(page.locator("#i2v-gallery-interpolate input[value='2']")).to_be_checked()
    picture_of(page, "finishing-gallery")

    page.locator("#i2v-gallery-interpolate").get_by_text("4×").click()
    page.locator("#i2v-gallery-upscale").get_by_text("1×").click()
    page.click("#i2v-gallery-finish-again")
    expect(page.locator("#i2v-gallery-told")).to_contain_text("Decoding again is job")
    expect(page.locator("#i2v-gallery-grid [data-act=open]")).to_have_count(2)
    page.click("#i2v-gallery-unfinish")
    expect(page.locator("#i2v-gallery-grid [data-act=open]")).to_have_count(3)
    open_newest(page)
    expect(page.locator("#i2v-gallery-unfinish")).not_to_be_visible()
    expect(page.locator("#i2v-gallery-deflicker input")).not_to_be_checked()
    expect(page.locator("#i2v-gallery-finish-told")).to_be_empty()
    assert shown_size(page, "#i2v-gallery-detail") == [96, 64]
    expect(page.locator("#i2v-gallery-finish-take")).not_to_be_visible()
    page.locator("#i2v-gallery-grid [data-act=open]").nth(1).click()
    expect(page.locator("#i2v-gallery-interpolate input[value='4']")).to_be_checked()
    page.locator("#i2v-gallery-grid [data-act=open]").first.click()
    newest = max(server.folder.glob("outputs/*/*/video.mp4"), key=lambda video: video.stat().st_mtime).parent
    (newest / REPORT).write_text(json.dumps({"flicker": 0.015, "drift": 0.1}))
    page.locator("#i2v-gallery-grid [data-act=open]").first.click()
    expect(page.locator("#i2v-gallery-offer")).to_contain_text("flickers 3.0 times as much as goes unnoticed")
    picture_of(page, "finishing-offer")
    page.click("#i2v-gallery-finish-take")
    expect(page.locator("#i2v-gallery-grid [data-act=open]")).to_have_count(4)
    page.locator("#i2v-gallery-grid [data-act=open]").first.click()
    expect(page.locator("#i2v-gallery-deflicker input")).to_be_checked()
    page.get_by_text("中文", exact=True).click()
    expect(page.locator("#i2v-gallery-finish-again")).to_have_text("重新整理")
    picture_of(page, "finishing-gallery-zh")
