"""Chromium on a model that needs a first and a last picture: its place comes and goes with the model, what is missing
is said, a reload keeps both pictures, and a real video is made of them, which gives them back."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator
from pathlib import Path

import pytest
from page_server import PageServer, page_server
from PIL import Image
from playwright.sync_api import Page, expect
from tab import Tab, picture_of

from i2v.jobs.job.folder import LAST_PICTURE, PICTURE, VIDEO
from i2v.jobs.list.rebuild import job_folders
from i2v.video.metadata import read_made_here
from tests.photos import photograph
from tests.video_support import shown
from tests.wan_checkpoints import KINDS, build

AXE = "axe_playwright_python"
SMALL = {"width": "128", "height": "128", "frames": "5", "steps": "2"}
LAST = "#i2v-last-picture"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageServer]:
    folder = tmp_path_factory.mktemp("last")
    build(folder / "models" / "between", KINDS["wan_flf2v"])
    with page_server(folder) as running:
        yield running


def choose(page: Page, model: str) -> None:
    page.click("#i2v-model input")
    page.get_by_role("option").filter(has_text=model).first.click()


def holds(page: Page, place: str, *, width: int | None = None) -> None:
    """The place shows a picture, of this width where one is named."""
    wanted = "> 0" if width is None else f"=== {width}"
    page.wait_for_function(f"document.querySelector('{place} img')?.naturalWidth {wanted}")


def nothing_sticks_out(page: Page, name: str) -> None:
    """At all widths, in the light and in the dark; and axe-core finds no serious fault in the place."""
    page.evaluate((importlib.resources.files(AXE) / "axe.min.js").read_text(encoding="utf-8"))
    for width, scheme in ((375, "dark"), (768, "light"), (1440, "dark"), (1920, "light"), (1280, "light")):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 900})
        picture_of(page, f"last-{name}-{width}-{scheme}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        box = page.locator(LAST).bounding_box()
        assert 0 <= box["x"] <= box["x"] + box["width"] <= width
        found = page.evaluate(f"axe.run(document.querySelector('{LAST}'), {{ resultTypes: ['violations'] }})")
        assert [one["id"] for one in found["violations"] if one["impact"] in ("serious", "critical")] == []


def test_two_pictures_become_a_video_and_come_back(tab: Tab, server: PageServer, tmp_path: Path) -> None:
    page, told = tab.page, tab.page.locator("#i2v-told")
    evening = tmp_path / "evening.png"
    Image.new("RGB", (320, 240), "navy").save(evening)
    expect(page.locator(LAST)).not_to_be_visible()
    page.set_input_files("#i2v-picture input[type=file]", photograph())
    holds(page, "#i2v-picture")
    page.fill("#i2v-prompt textarea", "the tower lights up")
    expect(page.locator(LAST)).not_to_be_visible()  # nor with a photograph, for the bundled model
    choose(page, "between")
    expect(page.locator(LAST)).to_be_visible()
    expect(page.locator(LAST)).to_contain_text("Last picture")
    expect(page.locator(LAST)).not_to_contain_text("optional")
    nothing_sticks_out(page, "empty")
    tab.unfold()
    for name, value in SMALL.items():
        page.fill(f"#i2v-{name} input", value)
    page.click("#i2v-generate")
    expect(told).to_contain_text("There is no last picture")
    # What is no picture is told at once; the place stays empty.
    (tmp_path / "notes.png").write_text("no picture")
    page.set_input_files(f"{LAST} input[type=file]", tmp_path / "notes.png")
    expect(told).to_contain_text("notes.png")
    page.locator(f"{LAST} input[type=file]").wait_for(state="attached")
    page.set_input_files(f"{LAST} input[type=file]", evening)
    holds(page, LAST, width=320)
    expect(told).to_be_empty()
    expect(page.locator("#i2v-width input")).to_have_value(SMALL["width"])  # the first picture gives the shape
    nothing_sticks_out(page, "filled")
    tab.open(server.url)
    expect(page.locator("#i2v-prompt textarea")).to_have_value("the tower lights up")
    holds(page, "#i2v-picture")
    holds(page, LAST, width=320)

    page.click("#i2v-generate")
    expect(page.locator("#i2v-status")).to_contain_text("Done")
    (folder,) = job_folders(server.folder / "outputs")
    assert len(shown(folder / VIDEO)) == 5
    request = read_made_here(folder / VIDEO)[1]
    assert [(one.path, one.at) for one in request.inputs] == [(PICTURE, 0), (LAST_PICTURE, -1)]
    with Image.open(folder / LAST_PICTURE) as kept:
        assert (kept.size, kept.getpixel((0, 0))) == ((320, 240), (0, 0, 128))
    picture_of(page, "last-done")

    page.locator(f"{LAST} button[aria-label='Clear'], {LAST} .top-panel button:last-of-type").first.click()
    expect(page.locator(f"{LAST} img")).to_have_count(0)
    page.set_input_files("input[type=file]:has(+ #i2v-restore)", folder / VIDEO)
    holds(page, LAST, width=128)
    holds(page, "#i2v-picture", width=128)
    page.get_by_text("中文", exact=True).click()
    expect(page.locator(LAST)).to_contain_text("尾帧图片")
    # Another model takes it not, and is sent none.
    choose(page, "Nano")
    expect(page.locator(LAST)).not_to_be_visible()
    expect(page.locator("#i2v-width input")).not_to_have_value(SMALL["width"])  # its own numbers
    tab.unfold()
    for name, value in (SMALL | {"frames": "8"}).items():
        page.fill(f"#i2v-{name} input", value)
    page.click("#i2v-generate")
    page.wait_for_function(f"!document.querySelector('#i2v-stage video')?.src.includes('{folder.name}')")
    expect(page.locator("#i2v-status")).to_contain_text("完成")
    (other,) = set(job_folders(server.folder / "outputs")) - {folder}
    assert [one.at for one in read_made_here(other / VIDEO)[1].inputs] == [0]
