"""Walk through a person's first five minutes: a fresh clone, the README's two commands, the real page in Chromium.

    python -m tools.walk

Writes the pictures of README.md and docs/first_five_minutes.md to docs/screenshots/ and prints the seconds that each
step took, as JSON. `--here` starts the app of this checkout instead, for when only the pictures are wanted.
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
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.browser.tab import CHROMIUM, FLAGS
from tests.page_server import free_port, wait_for_page

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "docs" / "screenshots"
LAKE = ROOT / "i2v" / "assets" / "examples" / "lake.jpg"
PROMPT = "slow zoom in while the water ripples"
START_SECONDS = 1200  # the first start installs everything
PATIENCE_MS = 90_000
WIDE, TELEPHONE = {"width": 1400, "height": 1000}, {"width": 390, "height": 844}


class Walk:
    """The steps with the seconds each took, and the pictures taken on the way."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time what is done within as `name`."""
        start = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - start, 1)
        print(f"{name}: {self.seconds[name]} s", flush=True)

    def picture(self, page: Page, name: str, *, whole: bool = False) -> None:
        """Keep what the window shows now, or the `whole` page, as `name`."""
        shot = self.out / f"{name}.png"
        page.screenshot(path=shot, full_page=whole)
        with Image.open(shot) as opened:
            opened.convert("RGB").save(shot.with_suffix(".webp"), "WEBP", quality=82, method=6)
        shot.unlink()


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


def opened(browser: Browser, url: str, **look: Any) -> tuple[BrowserContext, Page]:
    """A window that has the page, ready to be used."""
    context = browser.new_context(**look)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(url)
    page.wait_for_selector("#i2v-plan strong")
    return context, page


def fill(page: Page, picture: Path, prompt: str) -> None:
    """Put a picture and a sentence into the form, and wait for what the page makes of them."""
    page.set_input_files("#i2v-picture input[type=file]", picture)
    page.wait_for_function("document.querySelector('#i2v-picture img')?.naturalWidth > 0")
    page.fill("#i2v-prompt textarea", prompt)
    page.wait_for_timeout(1500)


def generate(page: Page, walk: Walk | None = None) -> None:
    """Press the button and wait for the video; `walk` takes a picture on the way."""
    page.click("#i2v-generate")
    page.wait_for_function("document.querySelector('.i2v-line')?.textContent.match(/(step|步) ?[0-9]+/)")
    if walk:
        page.wait_for_function("document.querySelector('.i2v-line')?.textContent.match(/step (1[0-9]|2[0-9]) of/)")
        page.wait_for_function("document.querySelector('#i2v-stage img')?.naturalWidth > 0")
        walk.picture(page, "running")
    page.wait_for_function("document.querySelector('#i2v-stage video')?.readyState > 2")


def on_a_desk(walk: Walk, browser: Browser, url: str) -> None:
    """The first video, then a look at every tab."""
    with walk.step("from the address typed to a page that knows the plan"):
        context, page = opened(browser, url, viewport=WIDE, locale="en-US")
    walk.picture(page, "opened")
    with walk.step("a picture and a sentence"):
        fill(page, LAKE, PROMPT)
    walk.picture(page, "filled")
    with walk.step("from Generate to the video playing"):
        generate(page, walk)
    page.wait_for_timeout(1500)
    walk.picture(page, "done")
    with walk.step("another seed, from Generate to the video playing"):
        page.fill("#i2v-prompt textarea", "night falls over the lake")
        generate(page)
    for steps in ("60", "50"):  # one at work, one waiting
        page.fill("#i2v-steps input", steps)
        page.click("#i2v-generate")
        page.wait_for_timeout(3000)
    for name, marker in (("Queue", ".i2v-job"), ("System", "#i2v-settings table"), ("Gallery", ".i2v-video-card")):
        page.get_by_role("tab", name=name).click()
        page.wait_for_selector(marker)
        page.wait_for_timeout(3000)
        if name != "Gallery":  # with a video opened it says more
            walk.picture(page, name.lower())
    page.locator(".i2v-video-card").first.click()
    page.wait_for_function("document.querySelector('#i2v-gallery-opened video')?.readyState > 2")
    page.wait_for_timeout(2500)
    walk.picture(page, "video", whole=True)
    context.close()


def on_a_telephone(walk: Walk, browser: Browser, url: str) -> None:
    """The same page, dark and in Chinese, by hand."""
    look = {"viewport": TELEPHONE, "locale": "zh-CN", "color_scheme": "dark", "has_touch": True, "is_mobile": True}
    context, page = opened(browser, url, **look)
    page.wait_for_timeout(2000)
    walk.picture(page, "telephone")
    context.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--here", action="store_true", help="the app of this checkout, with its environment")
    here = parser.parse_args().here
    OUT.mkdir(parents=True, exist_ok=True)
    walk = Walk(OUT)
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        folder = Path(temporary)
        if here:
            (folder / "i2v").symlink_to(ROOT)
        else:
            with walk.step("git clone"):
                subprocess.run(["git", "clone", "--quiet", ROOT, folder / "i2v"], check=True)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        port = free_port()
        with started(walk, folder, port) as url:
            on_a_desk(walk, browser, url)
            on_a_telephone(walk, browser, url)
        walk.seconds.pop("git clone", None)
        print(json.dumps(walk.seconds, indent=1))
        browser.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
