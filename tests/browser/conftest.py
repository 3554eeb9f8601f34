"""One Chromium for each file of stories, patient with a slow machine, and a tab on the file's server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from page_server import PageServer
from playwright.sync_api import Browser, expect, sync_playwright
from tab import CHROMIUM, FLAGS, PATIENCE, Tab


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium")
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.browser)
            item.add_marker(missing)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def tab(chromium: Browser, server: PageServer) -> Iterator[Tab]:
    """The page of the file's server, which must end without an error and without a call to anybody else."""
    tab = Tab.new(chromium)
    tab.open(server.url)
    yield tab
    tab.close()
    assert tab.errors == []
    assert [url for url in tab.calls if not url.startswith((server.url, "data:", "blob:"))] == []
