"""Chromium on a model that makes sound: the video of the page is heard, as long as it is seen; Nano's is silent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from page_server import PageServer, page_server
from playwright.sync_api import Page, expect
from tab import Tab, picture_of

from i2v.families import SPECS
from i2v.jobs.job.folder import VIDEO
from i2v.jobs.list.rebuild import job_folders
from i2v.video.metadata import probe_video
from tests.ltx2_checkpoints import build_ltx2

SMALL = {"width": "128", "height": "128", "frames": "17", "steps": "2"}
# What a browser hears of the video on the page: its file as the player has it, decoded, and played to the end.
HEARD = """async () => {
  const video = document.querySelector('#i2v-stage video');
  const bytes = await (await fetch(video.currentSrc)).arrayBuffer();
  const seen = { seconds: video.duration, heard: null };
  try {
    const sound = await new OfflineAudioContext(2, 1, 48000).decodeAudioData(bytes);
    const samples = sound.getChannelData(0);
    seen.heard = { seconds: sound.duration, channels: sound.numberOfChannels, loudest: samples.reduce((most, one) => Math.max(most, Math.abs(one)), 0) };
  } catch (error) { seen.error = error.name; }
  video.muted = true;
  await video.play();
  await new Promise((done) => { video.onended = done; video.loop = false; });
  seen.decoded = video.webkitAudioDecodedByteCount;
  return seen;
}"""  # noqa: E501


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageServer]:
    folder = tmp_path_factory.mktemp("sound")
    build_ltx2(folder / "models" / "little", "2.3")
    with page_server(folder) as running:
        yield running


def made(page: Page, server: PageServer, before: set[Any]) -> tuple[Any, dict[str, Any]]:
    """What the newest video is, and what a browser hears of it."""
    expect(page.locator("#i2v-status")).to_contain_text("Done")
    page.wait_for_function("document.querySelector('#i2v-stage video')?.readyState >= 1")
    (folder,) = set(job_folders(server.folder / "outputs")) - before
    return probe_video(folder / VIDEO), page.evaluate(HEARD)


def test_the_video_is_heard_as_long_as_it_is_seen(tab: Tab, server: PageServer) -> None:
    page = tab.page
    tab.ask(steps=2, frames=8)
    nano, seen = made(page, server, set())
    assert nano.sound_hz is None
    assert (seen["heard"], seen["decoded"]) == (None, 0)
    page.click("#i2v-model input")
    page.get_by_role("option").filter(has_text="little").first.click()
    expect(page.locator("#i2v-model-note")).to_contain_text("sound")
    tab.unfold()
    for name, value in SMALL.items():
        page.fill(f"#i2v-{name} input", value)
    before, shown = set(job_folders(server.folder / "outputs")), page.get_attribute("#i2v-stage video", "src")
    page.click("#i2v-generate")
    expect(page.locator("#i2v-stage video")).not_to_have_attribute("src", shown)
    info, seen = made(page, server, before)
    picture_of(page, "sound-done")
    assert info.sound_hz == SPECS["ltx2"].audio_rate
    assert info.frames == 17
    assert abs(seen["heard"]["seconds"] - info.seconds) <= 1 / info.fps
    assert seen["heard"]["channels"] == 2
    assert seen["heard"]["loudest"] > 0
    assert seen["decoded"] > 0
