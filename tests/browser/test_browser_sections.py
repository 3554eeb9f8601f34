"""Chromium on a model that makes its video section by section: progress tells the section, and the page shows what the
first section has made while the second one is being made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from urllib.parse import urljoin

import psutil
import pytest
from page_server import PageServer, page_server
from PIL import Image
from playwright.sync_api import Page, expect
from tab import PROMPT, Tab, picture_of

from i2v.jobs.job.folder import VIDEO
from i2v.jobs.list.rebuild import job_folders
from i2v.video.metadata import probe_video
from tests.framepack_checkpoints import build_framepack
from tests.photos import photograph

# So many steps that the page tells each section for seconds.
SMALL = {"width": "128", "height": "128", "frames": "73", "steps": "200"}
OF_SECTION = 1 + 9  # pictures of a preview: the photograph's, and those of a section


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageServer]:
    folder = tmp_path_factory.mktemp("sections")
    build_framepack(folder / "models" / "parts")
    with page_server(folder) as running:
        yield running


def pictures_shown(page: Page, server: PageServer) -> int:
    """How many pictures the preview has that the page shows; 0 without one."""
    if page.locator("#i2v-stage img").count() == 0:
        return 0
    address = page.locator("#i2v-stage img").first.get_attribute("src") or ""
    answer = page.request.get(urljoin(server.url, address))
    with Image.open(BytesIO(answer.body())) as shown:
        return getattr(shown, "n_frames", 1)


@contextmanager
def held_in_section(number: int, page: Page, server: PageServer) -> Iterator[None]:
    """From where the page tells section `number` on, what computes stands still: it would be done before anybody has
    looked."""
    told = f"document.querySelector('#i2v-status').textContent.includes('section {number} of 2')"
    page.wait_for_function(told, polling="raf")
    computing = psutil.Process(server.process.pid).children(recursive=True)
    for process in computing:
        process.suspend()
    try:
        yield
    finally:
        for process in computing:
            process.resume()


def test_a_video_grows_section_by_section(tab: Tab, server: PageServer) -> None:
    page = tab.page
    page.click("#i2v-model input")
    page.get_by_role("option").filter(has_text="parts").first.click()
    expect(page.locator("#i2v-model-note")).to_contain_text("section by section")
    page.set_input_files("#i2v-picture input[type=file]", photograph())
    page.wait_for_function("document.querySelector('#i2v-picture img')?.naturalWidth > 0")
    page.fill("#i2v-prompt textarea", PROMPT)
    tab.unfold()
    for name, value in SMALL.items():
        page.fill(f"#i2v-{name} input", value)
    page.click("#i2v-generate")
    with held_in_section(1, page, server):
        assert pictures_shown(page, server) in (0, OF_SECTION)  # nothing of a section that is not begun
    with held_in_section(2, page, server):
        page.wait_for_function("document.querySelector('#i2v-stage img')?.naturalWidth > 0")
        assert pictures_shown(page, server) >= OF_SECTION
        picture_of(page, "sections-second")
    expect(page.locator("#i2v-status")).to_contain_text("Done")
    (folder,) = job_folders(server.folder / "outputs")
    assert probe_video(folder / VIDEO).frames == 73
