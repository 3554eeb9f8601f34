"""Chromium drives the real page with the bundled model: from a photograph to a playing video."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from page_server import PageServer, free_port, page_server
from playwright.sync_api import Browser, expect
from tab import PROMPT, Tab, picture_of


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageServer]:
    with page_server(tmp_path_factory.mktemp("browser")) as running:
        yield running


def test_from_photograph_to_playing_video(tab: Tab, tmp_path: Path) -> None:
    page = tab.page
    expect(page.locator("#i2v-model-note")).to_contain_text("comes with I2V")
    tab.ask(steps=12, width=624, height=416)
    bars, titles = [], []
    for step in (2, 6, 10):
        page.wait_for_function(
            "step => +(document.querySelector('.i2v-line').textContent.match(/step (\\d+)/)?.[1] ?? 0) >= step"
            " || document.querySelector('video')",
            arg=step,
        )
        bars.append(tab.bar())
        titles.append(page.title())
    assert bars == sorted(bars)
    assert len(set(bars)) > 1
    video = page.locator("video")
    expect(video).to_be_visible()
    page.wait_for_function("document.querySelector('video').currentTime > 0.2")
    assert video.evaluate("video => [video.videoWidth, video.videoHeight, video.error]") == [624, 416, None]
    assert tab.bar() == 100
    assert re.fullmatch(r"\d+% · I2V", titles[0])
    expect(page).to_have_title("I2V")
    expect(page.locator(".i2v-chart polyline")).to_have_count(1)
    expect(page.locator("#i2v-log")).to_contain_text("[Memory] Step 12: Allocated=")
    with page.expect_download() as download:
        page.click("a.i2v-download")
    saved = tmp_path / "video.mp4"
    download.value.save_as(saved)
    assert download.value.suggested_filename.endswith(".mp4")
    assert saved.read_bytes()[4:8] == b"ftyp"


def test_the_preview_comes_and_a_reload_shows_the_run_again_and_cancel_ends_it(tab: Tab, server: PageServer) -> None:
    page = tab.page
    tab.ask(steps=400)
    preview = page.locator("img.i2v-preview")
    expect(preview).to_be_visible()
    page.wait_for_function("document.querySelector('img.i2v-preview').naturalWidth > 0")
    source = preview.get_attribute("src")
    tab.open(server.url)
    expect(page.locator(".i2v-line")).to_contain_text("of 400")
    expect(page.locator("#i2v-prompt textarea")).to_have_value(PROMPT)
    page.wait_for_function("document.querySelector('#i2v-picture img')?.naturalWidth > 0")
    expect(preview).not_to_have_attribute("src", source)
    expect(page.locator("#i2v-generate")).to_have_text("Add to the queue")
    page.click("#i2v-cancel")
    expect(page.locator(".i2v-line")).to_have_text("Cancelled")
    expect(page.locator("#i2v-generate")).to_have_text("Generate")
    expect(page.locator("#i2v-cancel")).to_be_disabled()


def test_a_run_is_laid_down_goes_on_and_is_decoded_again(tab: Tab) -> None:
    page, line, pause = tab.page, tab.page.locator(".i2v-line"), tab.page.locator("#i2v-pause")
    tab.ask(steps=20)
    expect(line).to_contain_text(re.compile(r"step [1-9]\d* of 20"))
    expect(pause).to_have_text("Pause")
    expect(page.locator("#i2v-retry, #i2v-redecode")).to_have_count(0)
    pause.click()
    expect(line).to_contain_text(re.compile(r"^Paused · step \d+ of 20$"))
    expect(pause).to_have_text("Resume")
    picture_of(page, "paused")
    page.get_by_text("中文", exact=True).click()
    expect(pause).to_have_text("继续")
    expect(line).to_contain_text("已暂停")
    expect(page.locator("#i2v-plan")).to_contain_text("内存足够")
    picture_of(page, "paused-zh")
    page.get_by_text("EN", exact=True).click()
    expect(pause).to_have_text("Resume")
    pause.click()
    expect(page.locator("#i2v-log")).to_contain_text("which was kept")
    expect(page.locator("video")).to_be_visible()
    source = page.locator("video").get_attribute("src")
    expect(page.locator("#i2v-retry, #i2v-pause")).to_have_count(0)
    expect(page.locator("#i2v-redecode")).to_have_text("Re-render (no new steps)")
    picture_of(page, "done")
    page.fill("#i2v-fps input", "3")
    page.click("#i2v-redecode")
    expect(page.locator("video")).not_to_have_attribute("src", source)
    expect(page.locator(".i2v-below")).to_contain_text("3 per second")
    assert "Denoising" not in page.locator("#i2v-log").text_content()


def test_what_was_cancelled_is_tried_again_from_what_is_kept(tab: Tab) -> None:
    page, line = tab.page, tab.page.locator(".i2v-line")
    tab.ask(steps=400)
    expect(line).to_contain_text(re.compile(r"step [1-9]\d* of 400"))
    page.click("#i2v-pause")
    expect(line).to_contain_text("Paused")
    page.click("#i2v-cancel")
    expect(line).to_have_text("Cancelled")
    expect(page.locator("#i2v-redecode")).to_have_text("Make a draft")
    expect(page.locator("#i2v-retry")).to_have_text(re.compile(r"Resume from step [1-9]\d*"))
    picture_of(page, "cancelled")
    page.click("#i2v-retry")
    expect(page.locator("#i2v-log")).to_contain_text("which was kept")
    page.click("#i2v-cancel")
    expect(line).to_have_text("Cancelled")


def test_another_is_asked_for_while_one_runs(tab: Tab) -> None:
    page, line = tab.page, tab.page.locator(".i2v-line")
    tab.ask(steps=400)
    expect(line).to_contain_text(re.compile(r"step [1-9]\d* of 400"))
    page.fill("#i2v-steps input", "500")
    page.get_by_role("button", name="Add to the queue").click()
    expect(line).to_contain_text("1 more in the queue")
    expect(line).to_contain_text("of 400")
    picture_of(page, "another")
    page.click("#i2v-cancel")
    expect(line).to_have_text("Cancelled")
    page.get_by_role("button", name="Show the next one").click()
    expect(line).to_contain_text("of 500")
    expect(page.locator("#i2v-show_next")).to_have_count(0)
    page.click("#i2v-cancel")
    expect(line).to_have_text("Cancelled")


def test_the_run_goes_on_whatever_becomes_of_its_tabs(chromium: Browser, server: PageServer) -> None:
    """Closed twice at moments that chance picks, and opened again: the same job, always further."""
    tab, chance, steps = Tab.new(chromium), random.Random(20261120), []
    tab.open(server.url)
    tab.ask(steps=400)
    expect(tab.page.locator(".i2v-line")).not_to_have_text("Ready")  # it has been sent
    for _ in range(2):
        tab.page.wait_for_timeout(chance.uniform(0, 2000))
        tab = tab.reopened()
        tab.open(server.url)
        expect(tab.page.locator(".i2v-line")).to_contain_text(re.compile(r"step \d+ of 400"))
        steps.append(int(re.search(r"step (\d+)", tab.page.locator(".i2v-line").inner_text())[1]))
        expect(tab.page.locator("#i2v-prompt textarea")).to_have_value(PROMPT)
    assert steps == sorted(steps)
    assert steps[-1] > steps[0]
    tab.page.click("#i2v-cancel")
    expect(tab.page.locator(".i2v-line")).to_have_text("Cancelled")
    tab.close()


def test_a_restart_of_the_app_takes_the_run_up_and_the_page_shows_it_again(chromium: Browser, tmp_path: Path) -> None:
    """In a new tab each time: the old one loads itself again when it finds another app, which a navigation of the
    test's own would race with."""
    port, tab, line = free_port(), Tab.new(chromium), ".i2v-line"
    with page_server(tmp_path, port=port) as first:
        tab.open(first.url)
        tab.ask(steps=400)
        expect(tab.page.locator(line)).to_contain_text(re.compile(r"step [1-9]\d* of 400"))
        tab = tab.reopened()
    with page_server(tmp_path, port=port) as second:
        tab.open(second.url)
        expect(tab.page.locator("#i2v-log")).to_contain_text("which was kept")
        expect(tab.page.locator(line)).to_contain_text(re.compile(r"step \d+ of 400"))
        expect(tab.page.locator("#i2v-prompt textarea")).to_have_value(PROMPT)
        tab.page.click("#i2v-cancel")
        expect(tab.page.locator(line)).to_have_text("Cancelled")
        tab = tab.reopened()
    with page_server(tmp_path, port=port) as third:
        tab.open(third.url)
        expect(tab.page.locator(line)).to_have_text("Cancelled")
        expect(tab.page.locator("#i2v-retry")).to_be_visible()
    tab.close()


def test_a_bad_request_is_told_in_place_and_mended(tab: Tab) -> None:
    page = tab.page
    tab.ask(steps=12, width=100)
    alert = page.locator("#i2v-told [role=alert]")
    expect(alert).to_contain_text("multiple of 8")
    expect(page.locator("#i2v-status")).to_contain_text("Ready")
    expect(page.locator("#i2v-generate")).to_be_enabled()
    page.fill("#i2v-width input", "96")
    expect(alert).to_have_count(0)  # what it asked for was done
    page.fill("#i2v-steps input", "1")
    page.fill("#i2v-frames input", "1")
    page.click("#i2v-generate")
    expect(page.locator("video")).to_be_visible()


def test_a_file_that_is_no_picture_is_told_at_once(tab: Tab, tmp_path: Path) -> None:
    words = tmp_path / "notes.jpg"
    words.write_text("not a picture")
    tab.page.set_input_files("#i2v-picture input[type=file]", words)
    expect(tab.page.locator("#i2v-told [role=alert]")).to_contain_text("notes.jpg")


def test_the_plan_follows_the_form_and_says_what_it_needs(tab: Tab) -> None:
    """At once for what is known, exactly for a size that nobody has asked for yet."""
    card = tab.page.locator("#i2v-plan")
    expect(card.locator(".i2v-plan.fits")).to_be_visible()
    expect(card).to_contain_text("Fits")
    expect(card.locator(".i2v-phase")).to_have_count(4)
    tab.unfold()
    tab.page.fill("#i2v-width input", "520")
    tab.page.locator("#i2v-width input").blur()
    expect(card).to_contain_text("next larger size")
    expect(card).not_to_contain_text("next larger size")
    expect(card.locator(".i2v-plan.fits")).to_be_visible()
    tab.page.fill("#i2v-width input", "513")
    tab.page.locator("#i2v-width input").blur()
    expect(card).to_contain_text("513")


def test_on_a_small_card_one_click_takes_the_nearest_settings_that_fit(chromium: Browser, tmp_path: Path) -> None:
    """I2VGen-XL at a large size on a simulated card of 2 GiB, and its weights not even here."""
    with page_server(tmp_path, "--simulate", "2", "--model", "i2vgen-xl") as small:
        tab = Tab.new(chromium, viewport={"width": 1280, "height": 1000})
        tab.open(small.url)
        page, card = tab.page, tab.page.locator("#i2v-plan")
        tab.unfold()
        for name, value in {"width": 1536, "height": 1536, "frames": 16}.items():
            page.fill(f"#i2v-{name} input", str(value))
            page.locator(f"#i2v-{name} input").blur()
        expect(card.locator(".i2v-plan.wont_fit")).to_be_visible()
        page.click("#i2v-nearest")
        expect(card.locator(".i2v-plan.slow")).to_be_visible()  # the processor stands in for the card
        expect(page.locator("#i2v-nearest")).to_be_hidden()
        sizes = [page.locator(f"#i2v-{name} input").input_value() for name in ("width", "height", "frames")]
        assert sizes != ["1536", "1536", "16"]
        asked: list[str] = []
        page.once("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
        with page.expect_event("dialog"):
            page.click("#i2v-generate")
        assert re.fullmatch(r"I2VGen-XL .* downloaded first\. This run will take about \d+ \w+\. Start it\?", asked[0])
        page.once("dialog", lambda dialog: dialog.accept())
        page.click("#i2v-generate")
        expect(page.locator("#i2v-told")).to_contain_text("no photograph")
        tab.close()


def test_chinese_by_the_browser_and_english_by_the_switch(chromium: Browser, server: PageServer) -> None:
    tab = Tab.new(chromium, locale="zh-TW")
    tab.open(server.url)
    page = tab.page
    expect(page.locator("#i2v-generate")).to_have_text("生成")
    expect(page.locator("#i2v-status")).to_contain_text("就绪")
    expect(page.locator("#i2v-model-note")).to_contain_text("自带")
    page.get_by_text("EN", exact=True).click()
    expect(page.locator("#i2v-generate")).to_have_text("Generate")
    expect(page.locator("#i2v-status")).to_contain_text("Ready")
    expect(page.locator("#i2v-tabs").get_by_role("tab")).to_have_text(["Create", "Queue", "Gallery", "Train", "System"])
    tab.open(server.url)
    expect(page.locator("#i2v-generate")).to_have_text("Generate")
    assert tab.errors == []
    tab.close()
