"""Chromium on a video's steadiness: measured by one click, told in words and plots, found by, in both languages."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator

import numpy as np
import pytest
from page_server import PageServer, page_server
from playwright.sync_api import Browser, Page, expect
from tab import Tab, picture_of
from tabs_support import finish, resting_service

from i2v.video.steadiness_files import kept_steadiness
from tests.filmed import brightened, filmed
from tests.video_support import write_video

AXE = "axe_playwright_python"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageServer]:
    """The app on two videos of an earlier version, which measured nothing: one flickers and has a cut."""
    folder = tmp_path_factory.mktemp("steadiness")
    pan, gains = filmed("pan"), 1 + 0.05 * np.random.default_rng(7).standard_normal(24)
    clips = {"calm sea": pan, "old film": brightened([*pan[:12], *(frame[::-1] for frame in pan[12:])], gains)}
    with resting_service(folder) as service:
        for prompt, clip in clips.items():
            video = service.status(finish(service, folder, prompt)).folder / "video.mp4"
            write_video(video, [np.ascontiguousarray(frame) for frame in clip], fps=24)
    with page_server(folder) as running:
        yield running


def open_video(page: Page, prompt: str) -> None:
    page.locator(".i2v-video-card", has_text=prompt).click()
    expect(page.locator("#i2v-opened")).to_have_text(prompt)


def measure(page: Page, title: str, button: str) -> None:
    """By the button under the title, which is unfolded first where it is not by now."""
    detail = page.locator("#i2v-gallery-detail")
    if not detail.get_by_role("button", name=button).is_visible():
        detail.get_by_text(title).click()
    detail.get_by_role("button", name=button).click()
    expect(detail.get_by_text(title)).to_have_count(0)


def choose(page: Page, field: str, option: str) -> None:
    page.locator(f"#i2v-gallery-{field} input").click()
    page.get_by_role("option", name=option, exact=True).click()


def serious_faults(page: Page) -> list[object]:
    """What keeps people from using the opened video, as axe-core finds it."""
    page.evaluate((importlib.resources.files(AXE) / "axe.min.js").read_text(encoding="utf-8"))
    result = page.evaluate("axe.run('#i2v-gallery-opened', { resultTypes: ['violations'] })")
    return [fault for fault in result["violations"] if fault["impact"] in ("serious", "critical")]


def plotted(page: Page) -> None:
    """Four plots, each as wide as its place, its curve within it."""
    plots = page.locator(".i2v-plot svg")
    expect(plots).to_have_count(4)
    for plot in plots.all():
        expect(plot).to_be_visible()
        around, curve = plot.bounding_box(), plot.locator("polyline").bounding_box()
        assert around is not None
        assert curve is not None
        assert curve["width"] > 0.9 * around["width"] > 80
        assert around["y"] - 1 <= curve["y"] <= curve["y"] + curve["height"] <= around["y"] + around["height"] + 1


def test_a_video_is_measured_and_found_again_by_what_it_has(tab: Tab, server: PageServer) -> None:
    page = tab.page
    page.get_by_role("tab", name="Gallery").click()
    for prompt in ("calm sea", "old film"):
        open_video(page, prompt)
        measure(page, "Steadiness: not measured", "Measure it now")
        plotted(page)
    detail = page.locator("#i2v-gallery-detail")
    expect(detail).to_contain_text("Steadiness: flickers, has cuts")
    expect(detail.get_by_role("row", name="Cuts")).to_contain_text("1, at 0.50 s")
    expect(detail.locator(".i2v-plot .cut")).to_have_count(4)
    assert serious_faults(page) == []
    picture_of(page, "gallery-steadiness")

    table = detail.get_by_role("link", name="Steadiness (CSV)")
    assert len(page.request.get(table.evaluate("link => link.href")).text().splitlines()) == 25
    reports = [kept_steadiness(path.parent) for path in (server.folder / "outputs").glob("*/*/video.mp4")]
    assert sorted(report.cuts for report in reports if report) == [(), (12,)]

    cards = page.locator(".i2v-card-prompt")
    choose(page, "steadiness", "steady")
    expect(cards).to_have_text(["calm sea"])
    choose(page, "steadiness", "has cuts")
    expect(cards).to_have_text(["old film"])
    expect(page.locator(".i2v-card-facts")).to_contain_text("flickers, has cuts")
    choose(page, "steadiness", "any")
    choose(page, "order", "steadiest first")
    expect(cards).to_have_text(["calm sea", "old film"])
    expect(page.locator(".i2v-gallery-count")).to_contain_text("steadiest first")


def test_in_chinese_and_on_a_telephone_it_says_the_same(chromium: Browser, server: PageServer) -> None:
    tab = Tab.new(chromium, locale="zh-CN", viewport={"width": 375, "height": 800}, color_scheme="dark")
    page = tab.page
    page.goto(server.url)
    page.get_by_role("tab", name="作品").click()
    open_video(page, "old film")
    if page.get_by_text("稳定性：未测量").is_visible():
        measure(page, "稳定性：未测量", "现在测量")
    else:  # by the story above
        page.get_by_text("稳定性：闪烁, 有切换").click()
    plotted(page)
    expect(page.locator("#i2v-gallery-detail").get_by_role("row", name="切换")).to_contain_text("1 处")
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    assert serious_faults(page) == []
    picture_of(page, "gallery-steadiness-zh")
    assert tab.errors == []
    tab.close()
