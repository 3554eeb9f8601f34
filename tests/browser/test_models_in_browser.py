"""Chromium on choosing a model: the one that a page begins with on a machine with a card, another in its place, and the
cards, which say what the machine makes of each."""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Iterator

import pytest
import stubs
from jobs_support import wait_until
from page_server import PageServer, page_server
from playwright.sync_api import Browser, Locator, Page, expect
from tab import Tab, picture_of

AXE = "axe_playwright_python"
CARD = stubs.card("NVIDIA GeForce RTX 3060", total_gib=12, used_gib=0.6)
STICKING_OUT = """() => [...document.querySelectorAll("#i2v-compared *, #i2v-model-note *")]
  .filter((one) => one.getBoundingClientRect().right > innerWidth + 1).map((one) => one.outerHTML.slice(0, 120))"""
LOOKS = [((375, 768), "dark", "zh-CN"), ((1280, 1920), "light", "en-US")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageServer]:
    """The app as a person starts it on a machine whose driver tells of a card. Its model is nowhere to be fetched."""
    environ = stubs.stub_environment(CARD) | {"HF_ENDPOINT": "http://127.0.0.1:9"}
    with page_server(tmp_path_factory.mktemp("models"), environ=environ, anew=True, cpu=False) as running:
        yield running


def cards(page: Page) -> Page:
    """The page with its cards open."""
    page.click("#i2v-compared > button")
    expect(page.locator(".i2v-model")).not_to_have_count(0)
    return page


def card_of(page: Page, title: str) -> Locator:
    return page.locator(".i2v-model").filter(has=page.get_by_role("heading", name=title, exact=True))


def test_a_page_begins_with_the_strongest_that_runs_well_and_says_so(tab: Tab, server: PageServer) -> None:
    page, note = tab.page, tab.page.locator("#i2v-model-note")
    picture_of(page, "models-first")
    expect(note).to_contain_text("LTX-Video was chosen for this machine")
    expect(note).to_contain_text("after a download of 26.5 GiB")
    expect(page.locator("#i2v-model input")).to_have_value(re.compile("^LTX-Video"))
    expect(page.locator("#i2v-steps input")).to_have_value("50")
    page.get_by_role("button", name="Take Nano instead").click()
    expect(page.locator("#i2v-model input")).to_have_value("Nano")
    expect(page.locator("#i2v-steps input")).to_have_value("25")
    expect(note).not_to_contain_text("chosen for this machine")
    tab.open(server.url)  # what a browser has used last wins
    expect(page.locator("#i2v-model input")).to_have_value("Nano")


def test_the_cards_say_what_the_machine_makes_of_each_and_choose(tab: Tab) -> None:
    page = cards(tab.page)
    picture_of(page, "models-cards")
    verdicts = page.locator(".i2v-model strong").all_inner_texts()
    assert verdicts.index("Fits") < verdicts.index("Fits, but very slow")
    expect(card_of(page, "Nano")).to_contain_text("from a photograph")
    expect(card_of(page, "Nano")).to_contain_text("on this computer")
    expect(card_of(page, "HunyuanVideo")).to_contain_text("39.0 GiB to download")
    licence = card_of(page, "HunyuanVideo").get_by_role("link", name="Tencent Hunyuan Community")
    assert licence.get_attribute("href").startswith("https://huggingface.co/")
    expect(card_of(page, "LTX-Video").get_by_role("button", name="Chosen")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Choose: HunyuanVideo", exact=True).press("Enter")
    expect(page.locator("#i2v-model input")).to_have_value(re.compile("^HunyuanVideo "))
    expect(card_of(page, "HunyuanVideo").get_by_role("button", name="Chosen")).to_have_attribute("aria-pressed", "true")
    expect(card_of(page, "HunyuanVideo").get_by_role("button", name="Chosen")).to_be_focused()
    expect(page.locator("#i2v-true_guidance")).to_be_attached()
    expect(page.locator("#i2v-fps input")).to_have_value("24")  # the numbers follow, as from the field
    # From the field, by keys, as ever: the cards follow.
    page.locator("#i2v-model input").fill("nano")
    page.keyboard.press("Enter")
    expect(card_of(page, "Nano").get_by_role("button", name="Chosen")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#i2v-steps input")).to_have_value("25")


def test_before_gigabytes_are_downloaded_the_page_asks(tab: Tab) -> None:
    page, asked = tab.page, []
    page.once("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    page.click("#i2v-example-mountains")
    page.wait_for_function("document.querySelector('#i2v-picture img')?.naturalWidth > 0")
    page.click("#i2v-generate")
    wait_until(lambda: page.evaluate("1") and asked)  # the browser's own events come in with each answer
    assert "26.5 GiB are downloaded first" in asked[0]
    expect(page.locator(".i2v-line")).to_contain_text("Ready")


@pytest.mark.parametrize(("widths", "scheme", "locale"), LOOKS)
def test_nothing_sticks_out_and_axe_finds_no_serious_fault(
    chromium: Browser, server: PageServer, widths: tuple[int, ...], scheme: str, locale: str
) -> None:
    tab = Tab.new(chromium, viewport={"width": widths[0], "height": 900}, locale=locale, color_scheme=scheme)
    tab.open(server.url)
    page = cards(tab.page)
    page.add_script_tag(path=str(importlib.resources.files(AXE) / "axe.min.js"))
    for width in widths:
        page.set_viewport_size({"width": width, "height": 900})
        picture_of(page, f"models-{width}-{scheme}-{locale}")
        assert page.evaluate(STICKING_OUT) == []
    found = page.evaluate("axe.run(document.querySelector('#i2v-compared'), { resultTypes: ['violations'] })")
    serious = [one for one in found["violations"] if one["impact"] in ("serious", "critical")]
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in serious] == []
    tab.close()
    assert tab.errors == []
