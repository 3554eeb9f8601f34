"""Chromium on the line below the sentence: what nano will make of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from page_server import PageServer, page_server
from playwright.sync_api import expect
from tab import Tab


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageServer]:
    with page_server(tmp_path_factory.mktemp("sentence")) as running:
        yield running


def test_it_is_told_while_it_is_typed_in_the_readers_language(tab: Tab) -> None:
    page, line = tab.page, tab.page.locator("#i2v-said")
    expect(line).to_be_hidden()
    page.fill("#i2v-prompt textarea", "zoom in while the dog wags its tail")
    expect(line).to_have_text("Motion: zoom in. Not understood: “the dog wags its tail”. This model can not do that.")
    page.locator("#i2v-language").get_by_text("中文").click()
    expect(line).to_have_text("运动：放大。 未能理解：“the dog wags its tail”。这个模型做不到。")
    page.fill("#i2v-prompt textarea", "")
    expect(line).to_be_hidden()
