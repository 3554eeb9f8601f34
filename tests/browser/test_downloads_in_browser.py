"""Chromium on models that come: fetched from a card while another model makes a video, paused, resumed, cancelled and
fetched again on the System tab, then used; and what is removed there, by the keyboard, on a telephone, in Chinese."""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from jobs_support import MODEL, fake_model, wait_until
from page_server import PageServer, page_server
from playwright.sync_api import Browser, Locator, Page, expect
from tab import Tab, picture_of

from tests.hub_server import Hub, serve_hub
from tests.warm_support import small_checkpoint

AXE = "axe_playwright_python"
REPO = "ali-vilab/i2vgen-xl"
NAME = "i2vgen-xl"
TITLE = "I2VGen-XL"
LOOKS = [
    {"locale": "zh-CN", "viewport": {"width": 375, "height": 768}, "color_scheme": "dark"},
    {"locale": "en-US"},
]
SLOW = 0.1  # seconds for each 16 KiB of a file
PLACES = "#i2v-models *, #i2v-models-told *, #i2v-compared *, #i2v-model-by-id *, #i2v-model-id-told *"
STICKING_OUT = f"""() => [...document.querySelectorAll("{PLACES}")]
  .filter((one) => one.getBoundingClientRect().right > innerWidth + 1).map((one) => one.outerHTML.slice(0, 120))"""


@dataclass(frozen=True)
class House:
    """The app and the hub that it asks, on this machine."""

    server: PageServer
    hub: Hub

    @property
    def models(self) -> Path:
        return self.server.folder / "models"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A card of 12 GiB, a hub that has one small model under several names, and a model that is here."""
    folder = tmp_path_factory.mktemp("downloads")
    fake_model(folder)
    one = small_checkpoint(folder / "hub" / NAME)
    with serve_hub({REPO: one, **{f"maker/{look['locale']}": one for look in LOOKS}}) as hub:
        hub.file_piece_seconds = SLOW
        environ = {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "cache")}
        with page_server(folder, "--simulate", "12", environ=environ) as running:
            yield House(running, hub)


@pytest.fixture(scope="module")
def server(house: House) -> PageServer:
    return house.server


def row_of(page: Page, name: str) -> Locator:
    return page.locator(f'#i2v-models [data-model="{name}"]')


def to_system(page: Page, word: str = "System") -> None:
    page.get_by_role("tab", name=word).click()
    expect(page.locator("#i2v-models .i2v-model-row")).not_to_have_count(0)


def bytes_shown(bar: Locator) -> int:
    return int(bar.get_attribute("value") or 0)


def serious_faults(page: Page, within: str) -> list[object]:
    page.evaluate(importlib.resources.files(AXE).joinpath("axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate(f"axe.run('{within}')")["violations"]
    serious = [one for one in found if one["impact"] in ("serious", "critical")]
    return [(one["id"], [node["html"] for node in one["nodes"]]) for one in serious]


def test_a_model_comes_while_another_makes_a_video_and_is_then_used(tab: Tab, house: House) -> None:
    page, hub = tab.page, house.hub
    page.click("#i2v-compared > button")
    card = page.locator(".i2v-model").filter(has=page.get_by_role("heading", name=TITLE, exact=True))
    card.get_by_role("button", name=f"Download now: {TITLE}").click()
    expect(card.locator(".i2v-download-line")).to_contain_text(re.compile(r"Downloading · \d+ MiB of \d+ MiB"))
    picture_of(page, "downloads-card")
    tab.ask(steps=1)
    expect(page.locator("#i2v-status")).to_contain_text("Done")  # made by another model meanwhile
    to_system(page)
    row, bar = row_of(page, NAME), row_of(page, NAME).locator("progress")
    expect(row).to_contain_text(re.compile(r"KiB/s|MiB/s"))
    expect(row).to_contain_text(re.compile(r"\d:\d\d left"))
    before = bytes_shown(bar)
    wait_until(lambda: bytes_shown(bar) > before)
    picture_of(page, "downloads-coming")
    row.get_by_role("button", name=f"Pause: {TITLE}").click()
    expect(row.locator(".i2v-download-line")).to_contain_text("Paused")
    expect(row.get_by_role("button", name=f"Resume: {TITLE}")).to_be_focused()
    served = settled(hub)
    page.keyboard.press("Enter")
    expect(row).to_contain_text("Downloading")
    wait_until(lambda: hub.served_bytes > served)
    row.get_by_role("button", name=f"Cancel: {TITLE}").click()
    expect(row.get_by_role("alert")).to_contain_text("Pause keeps it")
    expect(row.get_by_role("button", name=f"Keep it: {TITLE}")).to_be_focused()
    picture_of(page, "downloads-asked")
    page.keyboard.press("Enter")
    expect(row.get_by_role("alert")).to_have_count(0)
    row.get_by_role("button", name=f"Cancel: {TITLE}").click()
    row.get_by_role("button", name=f"Cancel, and delete what has come: {TITLE}").click()
    expect(row.get_by_role("button", name=f"Download: {TITLE}")).to_be_visible()
    wait_until(lambda: not (house.models / NAME).exists())
    row.get_by_role("button", name=f"Download: {TITLE}").click()
    page.get_by_role("tab", name="Create").click()
    expect(card.locator(".i2v-download-line")).to_contain_text("Downloading")  # begun on another tab
    expect(card.get_by_role("button", name=f"Download now: {TITLE}")).to_have_count(0)
    picture_of(page, "downloads-begun-elsewhere")
    hub.file_piece_seconds = 0.0
    to_system(page)
    expect(row).to_contain_text("On this computer")
    row.get_by_role("button", name=f"Verify: {TITLE}").click()
    expect(row).to_contain_text("it is what it should be")
    expect(row).to_contain_text("Contents compared with what was published")
    picture_of(page, "downloads-done")
    page.get_by_role("tab", name="Create").click()
    expect(card.get_by_role("button", name=f"Download now: {TITLE}")).to_have_count(0)
    page.get_by_role("button", name=f"Choose: {TITLE}", exact=True).click()
    expect(page.locator("#i2v-model input")).to_have_value(TITLE)
    hub.fetched.clear()
    page.click("#i2v-generate")
    expect(page.locator("#i2v-status")).to_contain_text(re.compile("Done"))
    assert hub.fetched == []


def settled(hub: Hub) -> int:
    """How many bytes the hub has sent once it sends no more."""
    sent = -1
    while sent != hub.served_bytes:
        sent = hub.served_bytes
        hub.closing.wait(1.0)
    return sent


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: look["locale"])
def test_a_model_is_removed_by_the_keyboard_in_both_languages(
    chromium: Browser, house: House, look: dict[str, object]
) -> None:
    tab, chinese = Tab.new(chromium, **look), look["locale"] == "zh-CN"
    tab.open(house.server.url)
    page = tab.page
    to_system(page, "系统" if chinese else "System")
    row = row_of(page, MODEL)
    row.get_by_role("button", name=re.compile("移除" if chinese else "Remove")).focus()
    page.keyboard.press("Enter")
    expect(row.get_by_role("alert")).to_contain_text("将被移除" if chinese else "still takes this space")
    expect(row.get_by_role("button", name=re.compile("保留" if chinese else "Keep it"))).to_be_focused()
    assert page.evaluate(STICKING_OUT) == []
    assert serious_faults(page, "#i2v-models") == []
    picture_of(page, f"downloads-remove-{look['locale']}")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # into the bin
    expect(row).to_have_count(0)
    expect(page.locator("#i2v-models-told")).to_contain_text(str(house.models / ".bin"))
    assert not (house.models / MODEL).exists()
    binned = max((house.models / ".bin").iterdir())
    binned.rename(house.models / MODEL)
    expect(row).to_be_visible()  # and back, without a press
    tab.close()
    assert tab.errors == []


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: look["locale"])
def test_any_model_is_fetched_by_its_id(chromium: Browser, house: House, look: dict[str, object]) -> None:
    tab, chinese = Tab.new(chromium, **look), look["locale"] == "zh-CN"
    tab.open(house.server.url)
    page = tab.page
    house.hub.file_piece_seconds = 0.0
    to_system(page, "系统" if chinese else "System")
    field, told = page.locator("#i2v-model-id textarea, #i2v-model-id input"), page.locator("#i2v-model-id-told")
    field.fill("maker/nobody")
    page.keyboard.press("Enter")
    expect(told).to_contain_text("Hub 上没有" if chinese else "The hub has no model maker/nobody")
    expect(field).to_have_value("maker/nobody")
    assert page.evaluate(STICKING_OUT) == []
    assert serious_faults(page, "#i2v-model-by-id") == []
    picture_of(page, f"downloads-by-id-{look['locale']}")
    field.fill(f"https://huggingface.co/maker/{look['locale']}")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(told).to_contain_text("已加入下载列表" if chinese else "is in the list of downloads now")
    expect(field).to_have_value("")
    expect(row_of(page, f"maker--{look['locale']}")).to_contain_text("已在本机" if chinese else "On this computer")
    tab.close()
    assert tab.errors == []
