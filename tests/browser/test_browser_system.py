"""Chromium on the System tab: live figures only while somebody looks, the self-test's report, tidying."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from page_server import PageServer, page_server
from playwright.sync_api import Browser, expect
from tab import PATIENCE, Tab, picture_of

from i2v.plan import Plan
from i2v.planning.ledger import Entry, Ledger, PhaseMeasured, Setup
from i2v.units import GIB


def fill_ledger(path: Path) -> None:
    """Some runs on a card, one of which was healed."""
    ledger, setup = Ledger(path), Setup("i2vgen_xl", "float16", "RTX 3060", "2.13.0")
    plan = Plan(device="cuda").to_json()
    for factor in (0.8, 1.0, 1.1, 1.3, 2.0):
        phases = (
            PhaseMeasured("encode", 2 * GIB, 2 * GIB, 1.5, 1.4 * factor),
            PhaseMeasured("denoise", int(5 * GIB * factor), int(5.2 * GIB * factor), 60, 66 * factor),
            PhaseMeasured("decode", 3 * GIB, int(2.7 * GIB), 9, 8 / factor),
        )
        ledger.add(Entry(setup, plan, phases))
    ledger.add(Entry(setup, plan, (), ("Guidance in two passes",)))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageServer]:
    folder = tmp_path_factory.mktemp("system")
    fill_ledger(folder / "logs" / "planner" / "ledger.jsonl")
    with page_server(folder, "--simulate", "6") as running:
        yield running


def opened(chromium: Browser, url: str, name: str, **more: object) -> Tab:
    tab = Tab.new(chromium, **more)
    tab.open(url)
    page = tab.page
    page.get_by_role("tab", name=name).click()
    expect(page.locator("#i2v-machine .i2v-device")).to_have_count(2)
    expect(page.locator("#i2v-settings summary")).to_be_visible()
    return tab


def test_the_tab_shows_the_machine_and_asks_only_while_it_is_looked_at(chromium: Browser, server: PageServer) -> None:
    tab = opened(chromium, server.url, "System")
    page = tab.page
    expect(page.locator("#i2v-machine")).to_contain_text("Simulated card")
    expect(page.locator("#i2v-settings")).to_contain_text("command line")
    expect(page.locator("#i2v-models")).to_contain_text("Comes with the app")
    expect(page.locator("#i2v-predictions circle")).to_have_count(30)
    expect(page.locator("#i2v-predictions")).to_contain_text("went on with: Guidance in two passes")
    picture_of(page, "system-1280-light-en")
    expect(page.locator("#i2v-settings table")).to_be_hidden()
    page.click("#i2v-settings summary")
    page.get_by_role("searchbox", name="Search the settings").fill("command PORT")
    expect(page.locator("#i2v-settings tbody tr:visible")).to_have_count(1)
    page.click("#i2v-tidy")
    expect(page.locator("#i2v-tidied")).to_contain_text("GiB were freed")
    before = len(tab.calls)
    page.wait_for_timeout(4500)
    assert len(tab.calls) > before  # it asks while it is looked at
    page.get_by_role("tab", name="Create").click()
    page.wait_for_timeout(1500)
    before = len(tab.calls)
    page.wait_for_timeout(4500)
    assert len(tab.calls) == before
    assert tab.errors == []
    tab.close()


def test_the_self_test_runs_beside_the_page_and_its_report_is_copied(chromium: Browser, server: PageServer) -> None:
    tab = opened(chromium, server.url, "System", permissions=["clipboard-read", "clipboard-write"])
    page = tab.page
    page.click("#i2v-test")
    expect(page.locator("#i2v-test")).to_be_disabled()
    expect(page.locator("#i2v-test-state")).to_contain_text("Everything works", timeout=4 * PATIENCE)
    report = page.locator("#i2v-report textarea")
    expect(report).to_have_value(re.compile("test video made in"))
    page.click("#i2v-copy")
    page.wait_for_function("async () => (await navigator.clipboard.readText()).length > 100")
    assert page.evaluate("navigator.clipboard.readText()").replace("\r", "") == report.input_value()
    picture_of(page, "system-report")
    assert tab.errors == []
    tab.close()
