"""Chromium on the tabs Queue and Gallery, with a list that an earlier start left."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from page_server import PageServer, page_server
from playwright.sync_api import Browser, JSHandle, Page, expect
from tab import Tab, picture_of
from tabs_support import finish, resting_service, submit

WRITTEN = "<b>bold</b> {{value}} ${1+1} & a prompt of a person who likes to try what a page does with such words"
WAITING, FINISHED = 20, 30


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageServer]:
    """The app on a list of finished and waiting jobs, its queue paused."""
    folder = tmp_path_factory.mktemp("tabs")
    with resting_service(folder, max_queue=100, max_queue_per_owner=100) as service:
        for number in range(FINISHED):
            finish(service, folder, WRITTEN if number == FINISHED - 1 else f"waves {number}", seed=number)
        for number in range(WAITING):
            submit(service, folder, f"rose {number}", model="nano")  # one that can be planned when it is retried
    with page_server(folder, environ={"I2V_MAX_JOBS_PER_MINUTE": "1000"}) as running:
        yield running


def turn_to(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name).click()


def carried(page: Page, path: Path) -> JSHandle:
    """A file on its way by mouse."""
    return page.evaluate_handle(
        """async ([data, name]) => {
            const blob = await (await fetch(`data:video/mp4;base64,${data}`)).blob();
            const carried = new DataTransfer();
            carried.items.add(new File([blob], name, { type: "video/mp4" }));
            return carried;
        }""",
        [base64.b64encode(path.read_bytes()).decode(), path.name],
    )


def prompts(page: Page) -> list[str]:
    return page.locator(".i2v-job-prompt").all_inner_texts()


def test_the_queue_is_reordered_by_keyboard_and_the_focus_goes_along(tab: Tab) -> None:
    page = tab.page
    turn_to(page, "Queue")
    expect(page.locator(".i2v-job.queued")).to_have_count(WAITING)
    expect(page.locator("#i2v-queue-pause input")).to_be_checked()
    page.wait_for_function("document.querySelectorAll('img.i2v-thumb').length > 20")
    picture_of(page, "queue")
    page.get_by_role("button", name="Earlier: rose 2", exact=True).focus()
    for first in (["rose 0", "rose 2", "rose 1"], ["rose 2", "rose 0", "rose 1"]):
        page.keyboard.press("Enter")
        page.wait_for_function(
            "first => first.every((p, i) => document.querySelectorAll('.i2v-job-prompt')[i].innerText === p)",
            arg=first,
        )
        if first[0] != "rose 2":  # at the top there is nothing to press any more
            expect(page.get_by_role("button", name="Earlier: rose 2", exact=True)).to_be_focused()
    page.get_by_role("button", name="To the top: rose 5", exact=True).click()
    expect(page.locator(".i2v-job-prompt").first).to_have_text("rose 5")
    page.drag_and_drop(".i2v-job:nth-child(1)", ".i2v-job:nth-child(3)")
    expect(page.locator(".i2v-job-prompt").nth(2)).to_have_text("rose 5")
    page.get_by_role("button", name="Cancel: rose 19", exact=True).click()
    expect(page.locator(".i2v-job.queued")).to_have_count(WAITING - 1)
    expect(page.locator(".i2v-job.cancelled")).to_contain_text("rose 19")
    page.get_by_role("button", name="Retry: rose 19", exact=True).click()
    expect(page.locator(".i2v-job.queued")).to_have_count(WAITING)
    page.get_by_role("button", name="Clear finished").click()
    expect(page.locator(".i2v-recent")).to_be_hidden()


def test_a_video_is_opened_compared_used_again_deleted_and_brought_back(tab: Tab, server: PageServer) -> None:
    page = tab.page
    turn_to(page, "Gallery")
    cards = page.locator(".i2v-video-card")
    expect(cards).to_have_count(24)
    expect(page.locator(".i2v-card-prompt").first).to_have_text(WRITTEN)
    assert page.locator("video").count() == 0
    page.wait_for_function("document.querySelectorAll('.i2v-frame img').length === 24")
    picture_of(page, "gallery")
    page.emulate_media(reduced_motion="no-preference")
    cards.first.hover()
    page.wait_for_function("document.querySelector('.i2v-video-card video')?.currentTime > 0")
    page.mouse.move(2, 2)
    expect(cards.locator("video")).to_have_count(0)
    page.emulate_media(reduced_motion="reduce")
    page.click("#i2v-gallery-more")
    expect(cards).to_have_count(FINISHED)
    page.fill("#i2v-gallery-search textarea, #i2v-gallery-search input", "waves 1")
    expect(cards).to_have_count(12)  # waves 1, waves 10 to 19, waves 21
    cards.first.press("Enter")
    video = page.locator("#i2v-gallery-detail video")
    page.wait_for_function("document.querySelector('#i2v-gallery-detail video')?.readyState >= 2")
    assert video.evaluate("video => [video.videoWidth, video.videoHeight, video.error]") == [64, 64, None]
    expect(page.locator("#i2v-opened")).to_be_focused()
    expect(page.locator("#i2v-opened")).to_have_text("waves 21")
    # The cards below are near enough to be seen.
    page.wait_for_function("document.querySelector('#i2v-gallery-detail video').getBoundingClientRect().height > 100")
    assert page.evaluate("document.querySelector('.i2v-cards').getBoundingClientRect().top < innerHeight")
    expect(page.locator("#i2v-gallery-run svg")).to_be_hidden()
    page.get_by_text("Time, memory and log").click()
    expect(page.locator("#i2v-gallery-run svg")).to_be_visible()
    picture_of(page, "gallery-opened")
    page.get_by_role("button", name="Next video").click()
    expect(page.locator("#i2v-opened")).to_have_text("waves 19")
    expect(page.locator("#i2v-gallery-run svg")).to_be_visible()  # what was unfolded stays so
    page.get_by_role("button", name="Previous video").click()
    expect(page.locator("#i2v-opened")).to_have_text("waves 21")
    page.click("#i2v-gallery-compare")
    expect(page.locator(".i2v-gallery-hint")).to_be_focused()
    assert page.evaluate("document.querySelector('.i2v-gallery-hint').getBoundingClientRect().top < innerHeight / 2")
    page.get_by_role("button", name="Compare with: waves 19", exact=True).click()
    expect(page.locator(".i2v-pair video")).to_have_count(2)
    page.wait_for_function("[...document.querySelectorAll('.i2v-pair video')].every(v => v.currentTime > 0)")
    page.evaluate("document.querySelector('.i2v-pair video').pause()")
    page.wait_for_function("[...document.querySelectorAll('.i2v-pair video')].every(v => v.paused)")
    picture_of(page, "gallery-compared")
    page.get_by_role("button", name="Use these settings: A, waves 21").click()
    expect(page.locator("#i2v-prompt textarea")).to_have_value("waves 21")
    expect(page.locator("#i2v-seed textarea, #i2v-seed input")).to_have_value("21")
    page.wait_for_function("document.querySelector('#i2v-picture img')?.naturalWidth > 0")
    expect(page.locator("#i2v-generate")).to_be_visible()
    turn_to(page, "Gallery")
    page.get_by_role("button", name="Open: A, waves 21").click()
    page.click("#i2v-gallery-delete")
    expect(cards).to_have_count(11)
    page.click("#i2v-gallery-undo")
    expect(cards).to_have_count(12)
    expect(page.locator("#i2v-gallery-undo")).to_be_hidden()


def test_a_video_made_here_stands_in_queue_and_gallery_and_fills_the_form(chromium: Browser, tmp_path: Path) -> None:
    """The bundled model: generated, found, and given back to the form as a file."""
    with page_server(tmp_path) as own:
        tab = Tab.new(chromium)
        tab.open(own.url)
        page = tab.page
        tab.ask(steps=3, width=64, height=64)
        turn_to(page, "Queue")
        expect(page.locator(".i2v-job.done")).to_contain_text("the camera slowly zooms in")
        page.get_by_role("button", name="Open: the camera slowly zooms in").click()
        page.wait_for_function("document.querySelector('#i2v-gallery-detail video')?.readyState >= 2")
        expect(page.locator("#i2v-opened")).to_be_focused()
        expect(page.locator(".i2v-cards .i2v-frame img")).to_have_count(1)
        (video,) = (tmp_path / "outputs").rglob("video.mp4")
        turn_to(page, "Create")
        page.fill("#i2v-prompt textarea", "something else")
        page.set_input_files("#i2v-restore input[type=file], input[type=file][accept*=mp4]", video)
        expect(page.locator("#i2v-prompt textarea")).to_have_value("the camera slowly zooms in")
        expect(page.locator("#i2v-steps input")).to_have_value("3")
        page.fill("#i2v-prompt textarea", "something else")
        page.locator("#i2v-picture").dispatch_event("drop", {"dataTransfer": carried(page, video)})
        expect(page.locator("#i2v-prompt textarea")).to_have_value("the camera slowly zooms in")
        page.fill("#i2v-prompt textarea", "something else")
        page.set_input_files("#i2v-picture input[type=file]", video)  # as the field's own picker does
        expect(page.locator("#i2v-prompt textarea")).to_have_value("the camera slowly zooms in")
        page.click("#i2v-generate")
        turn_to(page, "Gallery")
        expect(page.locator(".i2v-video-card")).to_have_count(2)
        turn_to(page, "Create")
        expect(page.locator(".i2v-line")).to_contain_text("Done")
        broken = tmp_path / "broken.mp4"
        broken.write_text("<html><script>alert(1)</script>")
        page.set_input_files("#i2v-restore input[type=file], input[type=file][accept*=mp4]", broken)
        expect(page.locator("#i2v-told [role=alert]")).to_contain_text("broken.mp4")
        expect(page.locator(".i2v-line")).to_contain_text("Done")
        assert tab.errors == []
        tab.close()
