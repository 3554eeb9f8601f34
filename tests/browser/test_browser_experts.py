"""Chromium on a model with two networks that take turns: the plan tells of both, and a photograph becomes a video that
both have made."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from page_server import PageServer, page_server
from playwright.sync_api import expect
from tab import PROMPT, Tab, picture_of

from i2v.jobs.job.folder import VIDEO
from i2v.jobs.list.rebuild import job_folders
from i2v.video.metadata import probe_video
from tests.photos import photograph
from tests.wan_checkpoints import KINDS, build

SMALL = {"width": "128", "height": "128", "frames": "9", "steps": "6"}
PHASES = ("denoising, much noise", "denoising, little noise")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageServer]:
    folder = tmp_path_factory.mktemp("experts")
    build(folder / "models" / "turns", KINDS["wan22_i2v"])
    with page_server(folder) as running:
        yield running


def test_a_photograph_becomes_a_video_that_two_networks_make(tab: Tab, server: PageServer) -> None:
    page = tab.page
    page.click("#i2v-model input")
    page.get_by_role("option").filter(has_text="turns").first.click()
    expect(page.locator("#i2v-model-note")).to_contain_text("two large networks")
    page.set_input_files("#i2v-picture input[type=file]", photograph())
    page.wait_for_function("document.querySelector('#i2v-picture img')?.naturalWidth > 0")
    page.fill("#i2v-prompt textarea", PROMPT)
    tab.unfold()
    for name, value in SMALL.items():
        page.fill(f"#i2v-{name} input", value)
    page.get_by_text("Memory by phase").click()
    for phase in PHASES:
        expect(page.locator("#i2v-plan")).to_contain_text(phase)
    page.click("#i2v-generate")
    expect(page.locator("#i2v-status")).to_contain_text("Done")
    page.wait_for_function("document.querySelector('#i2v-stage video')?.readyState >= 1")
    picture_of(page, "experts-done")
    (folder,) = job_folders(server.folder / "outputs")
    assert probe_video(folder / VIDEO).frames == 9
