"""Chromium on a model that LoRAs for few steps are made for: without the file it says what is needed, with it one click
makes a video in four steps, and another is back at full quality."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from page_server import PageServer, page_server
from playwright.sync_api import expect
from safetensors.torch import save_file
from tab import Tab, picture_of

from i2v.jobs.job.folder import VIDEO
from i2v.jobs.list.rebuild import job_folders
from i2v.video.metadata import read_made_here
from tests.lora_files import MUSUBI, named, pairs
from tests.video_support import shown
from tests.wan_checkpoints import build_wan

SMALL = {"width": "128", "height": "128", "frames": "5"}
WIDTH = 144  # of the small transformer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageServer]:
    folder = tmp_path_factory.mktemp("fast")
    build_wan(folder / "models" / "little")
    (folder / "models" / "loras").mkdir()
    with page_server(folder) as running:
        yield running


def test_one_click_makes_it_fast_and_one_gives_it_up(tab: Tab, server: PageServer) -> None:
    page, fast = tab.page, tab.page.locator("#i2v-fast")
    steps, guidance = page.locator("#i2v-steps input"), page.locator("#i2v-guidance input")
    expect(fast).not_to_be_visible()  # Nano needs none
    page.click("#i2v-model input")
    page.get_by_role("option").filter(has_text="little").first.click()
    expect(fast).to_have_text("Fast: 4 steps")
    fast.click()
    expect(page.locator("#i2v-told")).to_contain_text("needs a LoRA for few steps")
    expect(page.locator("#i2v-told")).to_contain_text(str(server.folder / "models" / "loras"))
    expect(steps).to_have_value("50")
    picture_of(page, "fast-missing")
    tab.unfold()
    for name, value in SMALL.items():
        page.fill(f"#i2v-{name} input", value)
    matrices = pairs({f"blocks.{number}.self_attn.q": (WIDTH, WIDTH) for number in range(4)}, 4, 5)
    save_file(named(matrices, MUSUBI), server.folder / "models" / "loras" / "little_lightx2v_4steps.safetensors")
    fast.press("Enter")
    expect(steps).to_have_value("4")
    expect(guidance).to_have_value("1")
    expect(fast).to_have_text("Full quality: 50 steps")
    expect(page.locator("#i2v-lora")).to_contain_text("little_lightx2v_4steps")
    page.fill("#i2v-prompt textarea", "snow falls")
    picture_of(page, "fast-taken")
    page.click("#i2v-generate")
    expect(page.locator("#i2v-status")).to_contain_text("Done")
    (folder,) = job_folders(server.folder / "outputs")
    request = read_made_here(folder / VIDEO)[1]
    assert (request.num_inference_steps, request.guidance_scale) == (4, 1)
    assert [one.source for one in request.adapters] == ["little_lightx2v_4steps"]
    assert len(shown(folder / VIDEO)) == 5
    page.get_by_text("中文", exact=True).click()
    expect(fast).to_have_text(re.compile("完整质量：50 步"))
    page.get_by_text("EN", exact=True).click()
    fast.click()
    expect(steps).to_have_value("50")
    expect(guidance).to_have_value("5")
    expect(fast).to_have_text("Fast: 4 steps")
