"""Whether a run minds its tabs: closed and opened again at random moments, on the real page.

    python -m bench.tabs --times 20

Starts the app on the processor with the bundled model, sends a long job, and closes and opens the tab again `--times`
times. Prints how long each page took to show the run again, and exits with 1 where one did not, or went back.
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from page_server import page_server
from photos import photograph
from playwright.sync_api import Error, sync_playwright

PATIENCE_MS = 60_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    chance, seconds, steps = random.Random(options.seed), [], []
    with (
        tempfile.TemporaryDirectory() as folder,
        page_server(Path(folder)) as server,
        sync_playwright() as playwright,
    ):
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        context = browser.new_context(locale="en-US")
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.goto(server.url)
        page.wait_for_function("document.querySelector('#i2v-model-note')?.textContent.trim()")
        before = page.locator("#i2v-height input").input_value()
        page.set_input_files("#i2v-picture input[type=file]", photograph())
        page.wait_for_function("old => document.querySelector('#i2v-height input').value !== old", arg=before)
        page.fill("#i2v-prompt textarea", "the camera slowly zooms in")
        page.click("#i2v-advanced > button")
        for name, value in {"width": 128, "height": 96, "frames": 16, "steps": 500}.items():
            page.fill(f"#i2v-{name} input", str(value))
        page.click("#i2v-generate")
        page.wait_for_function("document.querySelector('.i2v-line')?.textContent !== 'Ready'")  # it has been sent
        for _ in range(options.times):
            page.wait_for_timeout(chance.uniform(0, 1500))
            page.close()
            page = context.new_page()
            page.set_default_timeout(PATIENCE_MS)
            start = time.perf_counter()
            try:
                page.goto(server.url)
                shown = page.wait_for_function(
                    "document.querySelector('.i2v-line')?.textContent.match(/step (\\d+) of|Loading|Reading|Waiting/)"
                ).json_value()
            except Error as error:
                said = page.locator("#i2v-status").inner_text()
                print(f"the run was not shown again after {len(seconds)} times, but “{said}”: {error}")
                return 1
            seconds.append(time.perf_counter() - start)
            steps.append(int(shown[1]) if shown[1] else 0)
        browser.close()
    print("| tabs closed and opened | run shown again, median s | slowest s | first step seen | last step seen |")
    print("|---|---|---|---|---|")
    print(f"| {options.times} | {statistics.median(seconds):.2f} | {max(seconds):.2f} | {steps[0]} | {steps[-1]} |")
    return 0 if steps == sorted(steps) and steps[-1] > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
