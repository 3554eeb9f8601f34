"""Chromium on a model that makes its video section by section: progress tells the section, and the page shows what the
first section has made while the second one is being made."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from io import BytesIO
from urllib.parse import urljoin

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

SMALL = {"width": "128", "height": "128", "frames": "73", "steps": "30"}
SECTION = re.compile(r"section (\d) of 2")
FIRST = 1 + 9  # pictures of a preview: the photograph's, and those of a section


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
    seen: dict[int, int] = {}
    until = time.monotonic() + 60
    while time.monotonic() < until and seen.get(2, 0) < FIRST:
        told = SECTION.search(page.locator("#i2v-status").inner_text())
        if told is not None:
            number = int(told[1])
            seen[number] = max(seen.get(number, 0), pictures_shown(page, server))
            if seen[number] and number == 2:
                picture_of(page, "sections-second")
        page.wait_for_timeout(200)
    assert seen[1] in (0, FIRST)  # nothing is shown of a section that is not begun
    assert seen[2] >= FIRST
    expect(page.locator("#i2v-status")).to_contain_text("Done")
    (folder,) = job_folders(server.folder / "outputs")
    assert probe_video(folder / VIDEO).frames == 73
