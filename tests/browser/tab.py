"""A page of the app in Chromium, with what went wrong on it and whom it called.

With LOOK=<folder> what the tests see is saved there.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from tests.photos import photograph

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
PROMPT = "the camera slowly zooms in"
# How long a thing may take before it counts as never coming, in milliseconds; nothing waits longer than it must.
PATIENCE = 150_000


@dataclass
class Tab:
    """A page with what went wrong on it and whom it called."""

    page: Page
    errors: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)

    @classmethod
    def new(cls, chromium: Browser, **more: object) -> Tab:
        """A watched page in a context of its own: 1280 by 900, English, light and still, unless `more` says other."""
        usual: dict[str, object] = {"viewport": {"width": 1280, "height": 900}, "locale": "en-US"}
        usual |= {"color_scheme": "light", "reduced_motion": "reduce"}
        tab = cls(chromium.new_context(**{**usual, **more}).new_page())
        tab.page.set_default_timeout(PATIENCE)
        tab.page.on("console", lambda line: tab.errors.append(line.text) if line.type == "error" else None)
        tab.page.on("pageerror", lambda error: tab.errors.append(str(error)))
        tab.page.on("request", lambda request: tab.calls.append(request.url))
        return tab

    def reopened(self) -> Tab:
        """Closed, and an empty one of the same browser, with what that remembers."""
        self.page.close()
        tab = Tab(self.page.context.new_page())
        tab.page.set_default_timeout(PATIENCE)
        return tab

    def close(self) -> None:
        self.page.context.close()

    def open(self, url: str) -> None:
        self.page.goto(url)
        expect(self.page.locator("#i2v-status")).to_be_visible()
        # Comes with the answer to the page's first question: from then on everything is connected.
        expect(self.page.locator("#i2v-model-note")).not_to_be_empty()

    def ask(self, *, steps: int, frames: int = 8, width: int = 96, height: int = 64) -> None:
        """Fill the form and press Generate. The size is set after the picture, which proposes one."""
        page = self.page
        # The number shows that the page has taken the picture in: it proposes another shape for it.
        before = page.locator("#i2v-height input").input_value()
        page.set_input_files("#i2v-picture input[type=file]", photograph())
        expect(page.locator("#i2v-height input")).not_to_have_value(before)
        page.fill("#i2v-prompt textarea", PROMPT)
        self.unfold()
        for name, value in {"width": width, "height": height, "frames": frames, "steps": steps, "fps": 8}.items():
            page.fill(f"#i2v-{name} input", str(value))
        page.click("#i2v-generate")

    def unfold(self) -> None:
        """Open Advanced, where the numbers are, and the LoRAs where the model takes some."""
        for name in ("loras", "advanced"):
            button = self.page.locator(f"#i2v-{name} > button")
            if button.is_visible() and button.get_attribute("aria-expanded") != "true":
                button.click()

    def bar(self) -> float:
        return float(self.page.locator(".i2v-bar").get_attribute("aria-valuenow"))


def picture_of(page: Page, name: str) -> None:
    """Kept for people to look at, where LOOK names a folder."""
    if folder := os.environ.get("LOOK"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)
