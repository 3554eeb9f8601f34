"""Whether a run minds its tabs: closed and opened again at random moments, on the real page.

    python -m bench.tabs --times 20

Starts the app on the processor with the bundled model, sends a long job, and closes and opens the tab again `--times`
times. Prints how long each page took to show the run again, and exits with 1 where one did not, or went back.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Error, expect, sync_playwright

from tests.browser.tab import CHROMIUM, FLAGS, PATIENCE, Tab
from tests.page_server import page_server


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
        expect.set_options(timeout=PATIENCE)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        tab = Tab.new(browser)
        tab.open(server.url)
        tab.ask(width=128, height=96, frames=16, steps=500)
        tab.page.wait_for_function("document.querySelector('.i2v-line')?.textContent !== 'Ready'")  # it has been sent
        for _ in range(options.times):
            tab.page.wait_for_timeout(chance.uniform(0, 1500))
            tab = tab.reopened()
            start = time.perf_counter()
            try:
                tab.page.goto(server.url)
                shown = tab.page.wait_for_function(
                    "document.querySelector('.i2v-line')?.textContent.match(/step (\\d+) of|Loading|Reading|Waiting/)"
                ).json_value()
            except Error as error:
                said = tab.page.locator("#i2v-status").inner_text()
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
