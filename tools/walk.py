"""Walk through a person's first five minutes: a fresh clone, the README's two commands, the real page in Chromium.

    python -m tools.walk

Writes the pictures of README.md and docs/first_five_minutes.md to docs/screenshots/ and prints the seconds that each
step took, as JSON. The same way is walked on a desk and on a telephone, in English and in Chinese; all pictures of it,
whole pages, are left in logs/walk/ to be looked at. `--here` starts the app of this checkout instead, for when only
the pictures are wanted.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.tab import CHROMIUM, FLAGS
from tests.page_server import free_port, wait_for_page

ROOT = Path(__file__).resolve().parents[1]
SHOWN = ROOT / "docs" / "screenshots"
SEEN = ROOT / "logs" / "walk"
PHOTOGRAPH = ROOT / "i2v" / "assets" / "examples" / "mountains.jpg"
START_SECONDS = 1200  # the first start installs everything
PATIENCE_MS = 300_000
DESK = {"viewport": {"width": 1440, "height": 900}}
TELEPHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


@dataclass(frozen=True)
class Look:
    """A way to come to the page. `shown`: the documents' name for a picture, by the name of the stop where it is
    taken. `first`: nobody has made a video before, so that all of it is timed."""

    name: str
    window: dict[str, Any]
    locale: str
    prompt: str
    dark: bool = False
    first: bool = False
    shown: dict[str, str] = field(default_factory=dict)


_DOCUMENTED = ("opened", "filled", "running", "done", "queue", "system", "video")
LOOKS = (
    Look(
        "desk-en", DESK, "en-US", "clouds drift over the mountains",
        first=True, shown={name: name for name in _DOCUMENTED},
    ),
    Look("desk-zh", DESK, "zh-CN", "云朵缓缓飘过天空", dark=True, shown={"done": "done-zh"}),
    Look("telephone-en", TELEPHONE, "en-US", "slow zoom in", shown={"done": "telephone-done"}),
    Look("telephone-zh", TELEPHONE, "zh-CN", "镜头缓慢推近", dark=True, shown={"opened": "telephone"}),
)  # fmt: skip


class Walk:
    """The steps with the seconds each took, and the pictures taken on the way."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str, *, timed: bool = True) -> Iterator[None]:
        """Time what is done within as `name`."""
        start = time.monotonic()
        yield
        if timed:
            self.seconds[name] = round(time.monotonic() - start, 1)
            print(f"{name}: {self.seconds[name]} s", flush=True)

    def picture(self, page: Page, look: Look, name: str) -> None:
        """Keep what the documents show of the page, the window or all of an opened video; and, to be looked at, all of
        it, after which the window is put back where it was."""
        if name in look.shown:
            shot = SEEN / "shown.png"
            page.screenshot(path=shot, full_page=name == "video")
            with Image.open(shot) as opened:
                opened.convert("RGB").save(SHOWN / f"{look.shown[name]}.webp", "WEBP", quality=82, method=6)
            shot.unlink()
        place = page.evaluate("scrollY")
        page.screenshot(path=SEEN / f"{look.name}-{name}.png", full_page=True)
        page.evaluate("place => scrollTo({ top: place, behavior: 'instant' })", place)


@contextmanager
def started(walk: Walk, folder: Path, port: int) -> Iterator[str]:
    """The app as the README starts it, its own folders inside `folder`; the page's address."""
    own = {"I2V_OUTPUTS_DIR": str(folder / "outputs"), "I2V_LOGS_DIR": str(folder / "logs"), "LANG": "C.UTF-8"}
    command = ["bash", "start_app.sh", "--port", str(port)]
    with (folder / "app.txt").open("wb") as said:
        app = subprocess.Popen(
            command, cwd=folder / "i2v", env={**os.environ, **own}, stdout=said, stderr=subprocess.STDOUT
        )
        url = f"http://127.0.0.1:{port}"
        try:
            with walk.step("from start_app.sh to the page's first answer"):
                wait_for_page(url, app, folder / "app.txt", most_seconds=START_SECONDS)
            yield url
        finally:
            app.send_signal(signal.SIGTERM)
            app.wait(60)


def generate(walk: Walk, page: Page, look: Look) -> None:
    """Press the button and wait for the video; a picture is taken on the way."""
    page.click("#i2v-generate")
    page.wait_for_function("document.querySelector('.i2v-line')?.textContent.match(/(step|第) ?([5-9]|1[0-9]) /)")
    page.wait_for_function("document.querySelector('#i2v-stage img')?.naturalWidth > 0")
    walk.picture(page, look, "running")
    page.wait_for_function("document.querySelector('#i2v-stage video')?.readyState > 2")


def to_tab(page: Page, name: str, marker: str) -> None:
    """Turn to a tab, and wait for what it shows."""
    page.click(f'#i2v-tabs [data-tab-id="{name}"]')
    page.locator(marker).first.wait_for()
    page.wait_for_timeout(3000)


def walked(walk: Walk, browser: Browser, url: str, look: Look) -> None:
    """A video from a picture and a sentence, then every tab."""
    timed = {"timed": look.first}
    scheme = "dark" if look.dark else "light"
    context = browser.new_context(**look.window, locale=look.locale, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.on("dialog", lambda asked: asked.accept())
    with walk.step("from the address typed to a page that knows the plan", **timed):
        page.goto(url)
        page.wait_for_selector("#i2v-plan strong")
    page.wait_for_timeout(1500)
    walk.picture(page, look, "opened")
    with walk.step("a picture and a sentence", **timed):
        page.set_input_files("#i2v-picture input[type=file]", PHOTOGRAPH)
        page.wait_for_function("document.querySelector('#i2v-picture img')?.naturalWidth > 0")
        page.fill("#i2v-prompt textarea", look.prompt)
        page.wait_for_function("!document.querySelector('#i2v-length')?.textContent.includes('…')")
    if not look.first:  # the pictures are wanted, and not the best of videos
        page.fill("#i2v-steps input", "12")
    page.wait_for_timeout(2000)
    walk.picture(page, look, "filled")
    with walk.step("from Generate to the video playing", **timed):
        generate(walk, page, look)
    page.wait_for_timeout(1500)
    walk.picture(page, look, "done")
    for _ in range(2):  # one at work, one waiting
        page.click("#i2v-generate")
        page.wait_for_timeout(3000)
    to_tab(page, "queue", ".i2v-job")
    walk.picture(page, look, "queue")
    to_tab(page, "system", "#i2v-settings summary")
    walk.picture(page, look, "system")
    to_tab(page, "gallery", ".i2v-video-card")
    walk.picture(page, look, "gallery")
    page.locator(".i2v-video-card").first.click()
    page.wait_for_function("document.querySelector('#i2v-gallery-opened video')?.readyState > 2")
    page.wait_for_timeout(2500)
    walk.picture(page, look, "video")
    to_tab(page, "queue", ".i2v-job")
    cancel = page.locator(".i2v-job [data-act=cancel]:enabled")
    while cancel.count():  # the next one finds the queue empty
        cancel.last.click()
        page.wait_for_timeout(3000)
    context.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--here", action="store_true", help="the app of this checkout, with its environment")
    parser.add_argument("--look", choices=[look.name for look in LOOKS], help="this one alone")
    given = parser.parse_args()
    for folder in (SHOWN, SEEN):
        folder.mkdir(parents=True, exist_ok=True)
    walk = Walk()
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        folder = Path(temporary)
        if given.here:
            (folder / "i2v").symlink_to(ROOT)
        else:
            subprocess.run(["git", "clone", "--quiet", ROOT, folder / "i2v"], check=True)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        with started(walk, folder, free_port()) as url:
            for look in LOOKS:
                if given.look in (None, look.name):
                    walked(walk, browser, url, look)
        print(json.dumps(walk.seconds, indent=1))
        browser.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
