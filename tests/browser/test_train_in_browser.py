"""Training on the page: clips uploaded, a name, a few steps, the losses, and the LoRA on the Create tab."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from page_server import PageServer, page_server
from playwright.sync_api import Page, expect
from tab import Tab, picture_of

from tests.video_support import moving_frames, write_video

STEPS = 3


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageServer]:
    with page_server(tmp_path_factory.mktemp("training")) as running:
        yield running


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("clips")
    names = ("a_ball_rolls-1.mp4", "a_ball_rolls-2.mp4")
    for name in names:
        write_video(folder / name, moving_frames(10, 64, 64), fps=8)
    return [folder / name for name in names]


def upload(page: Page, files: list[Path]) -> None:
    page.set_input_files("#i2v-train-films input[type=file]", files)
    expect(page.locator("#i2v-train-captions [role=gridcell]")).to_have_count(2 * len(files))


def test_a_motion_is_taught_and_offered_for_videos(tab: Tab, server: PageServer, clips: list[Path]) -> None:
    page, no_film = tab.page, server.folder / "no-film.mp4"
    no_film.write_text("<html>no film</html>")
    page.get_by_role("tab", name="Train").click()
    told = page.locator("#i2v-train-told")
    page.click("#i2v-train-now")
    expect(told).to_contain_text("Training needs clips")

    upload(page, [no_film])
    page.locator("#i2v-train-name").locator("input, textarea").fill("no film")
    page.click("#i2v-train-now")
    expect(told).to_contain_text("no-film.mp4 is not a video that can be read")
    page.locator("#i2v-train-films").get_by_label("Clear").click()
    expect(page.locator("#i2v-train-captions")).not_to_be_visible()
    page.locator("#i2v-train-name").locator("input, textarea").fill("")
    upload(page, clips)
    expect(page.locator("#i2v-train-captions")).to_contain_text("a ball rolls")
    page.click("#i2v-train-now")
    expect(told).to_contain_text("The LoRA needs a name")

    page.locator("#i2v-train-captions [data-testid=cell-1-1]").dblclick()
    editor = page.locator("#i2v-train-captions").locator("textarea, input").and_(page.locator(":focus"))
    expect(editor).to_have_value("a ball rolls")  # what is typed before it is there is typed behind that
    editor.fill("a ball rolls away")
    page.keyboard.press("Enter")
    page.locator("#i2v-train-name").locator("input, textarea").fill("rolling")
    page.locator("#i2v-train-trigger").locator("input, textarea").fill("zzroll")
    page.fill("#i2v-train-steps input", str(STEPS))
    page.locator("#i2v-train-more > button").click()
    for name, value in {"width": 64, "height": 64, "frames": 8, "fps": 8}.items():
        page.locator(f"#i2v-train-{name}").locator("input, textarea").fill(str(value))
    page.fill("#i2v-train-batch input", "1")
    page.fill("#i2v-train-validate input", str(STEPS))
    picture_of(page, "train-form")
    page.click("#i2v-train-now")

    training = page.locator(".i2v-training")
    expect(training).to_contain_text("rolling")
    expect(page.locator("#i2v-train-captions")).not_to_be_visible()
    expect(training.locator(".i2v-loss svg")).to_be_visible()
    expect(training).to_contain_text(f"step {STEPS} of {STEPS}")
    expect(training).to_contain_text("The LoRA “rolling” is ready")
    points = training.locator("polyline.loss").get_attribute("points")
    assert points is not None
    assert len(points.split()) == STEPS
    page.wait_for_function("document.querySelector('.i2v-training-clips video')?.videoWidth === 64")
    picture_of(page, "train-done")
    captions = sorted(file.read_text().strip() for file in server.folder.rglob(".i2v/clips/*/*.txt"))
    assert captions == ["a ball rolls", "a ball rolls away"]

    upload(page, clips[:1])
    page.click("#i2v-train-now")
    expect(told).to_contain_text("The name “rolling” is taken")

    page.get_by_role("button", name="Use it on the Create tab").click()
    expect(page.locator("#i2v-generate")).to_be_visible()
    tab.unfold()
    expect(page.locator("#i2v-lora")).to_contain_text("rolling")
    picture_of(page, "train-used")

    page.get_by_role("tab", name="Train").click()
    page.get_by_text("中文", exact=True).click()
    expect(page.locator("#i2v-train-now")).to_have_text("开始训练")
    expect(training).to_contain_text("已就绪")
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 375, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    picture_of(page, "train-narrow-dark-zh")
