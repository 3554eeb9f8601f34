"""How soon the page is there, and how soon it answers, in a real browser while a job runs.

    python -m bench.page_time

Starts the real app and keeps the bundled model at work. Opens the page in Chromium with nothing cached, and again with
its files cached; then changes one setting after the other. Prints a table with the machine's load beside it, writes
bench/results/page_time.json, exits 1 beyond the targets.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.browser.tab import CHROMIUM, FLAGS
from tests.page_server import PageServer, page_server
from tests.photos import photograph

FIRST_PAINT_MS, INTERACTIVE_MS, ANSWER_MS = 1500.0, 3000.0, 300.0
JOB = {"model": "nano", "prompt": "zoom in", "width": 192, "height": 128, "frames": 16, "steps": 500, "seed": 7}
PATIENCE_MS = 60_000
PLANNING_MS, PAUSE_MS = 8000, 800  # what the exact plan of a new value may take, and of one that is known
RESULTS = Path(__file__).parent / "results" / "page_time.json"

# Clicks the second tab as soon as it is there, frame by frame, and says when that had an effect, and when Generate
# could first be pressed.
OPENING = """
  const seen = window.seen = {};
  const look = () => {
    const tab = document.querySelectorAll("#i2v-tabs [role=tab]")[1];
    const generate = document.querySelector("#i2v-generate");
    if (generate && !generate.disabled) seen.generate ??= performance.now();
    if (tab && tab.getAttribute("aria-selected") === "true") seen.tab ??= performance.now();
    else if (tab && !seen.tab) tab.click();
    if (!seen.tab || !seen.generate) requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
"""
# Milliseconds from the last thing that a person did until what is watched says something else, in the browser's own
# time. Gradio's own signs of waiting, which come at once, are no answer.
WATCHING = """selector => {
  const said = () => {
    const answer = document.querySelector(selector);
    return answer ? answer.textContent + (answer.placeholder ?? "") : "";
  };
  let since = 0, before = "";
  window.answered = 0;
  for (const event of ["input", "keydown", "mousedown"])
    document.addEventListener(event, () => {
      since = performance.now(), before = said(), window.answered = 0;
    }, true);
  new MutationObserver(() => {
    if (since && !window.answered && said() !== before) window.answered = performance.now() - since;
  }).observe(document.body, { childList: true, subtree: true, characterData: true, attributeFilter: ["placeholder"] });
}"""
IDLE = "no job"  # opening has its targets on a machine that does nothing else
PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"


def submit(server: PageServer) -> str:
    """A job that is at work for the whole of the measurement."""
    with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as client, photograph().open("rb") as file:
        uploaded = client.post("/gradio_api/upload", files={"files": ("photo.jpg", file)}).json()[0]
        picture = {"path": uploaded, "meta": {"_type": "gradio.FileData"}}
        answer = client.post("/gradio_api/run/submit", json={"data": [picture, JOB]})
        answer.raise_for_status()
        return answer.json()["data"][0]


def status(server: PageServer, job_id: str) -> dict[str, Any]:
    answer = httpx.post(f"{server.url}/gradio_api/run/status", json={"data": [job_id]}, trust_env=False, timeout=60)
    return answer.raise_for_status().json()["data"][0]


def open_once(context: BrowserContext, url: str) -> dict[str, float]:
    """Milliseconds from the start of the navigation to the first paint, and until a click on a tab has an effect and
    Generate can be pressed."""
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.add_init_script(OPENING)
    page.goto(url)
    page.wait_for_function("window.seen?.tab && window.seen?.generate")
    painted, seen = page.evaluate(PAINTED), page.evaluate("window.seen")
    page.close()
    return {"first_paint_ms": painted, "interactive_ms": max(seen.values())}


def openings(browser: Browser, url: str, rounds: int) -> dict[str, list[dict[str, float]]]:
    """The first visit of a browser that has nothing, and the next one of the same browser."""
    found: dict[str, list[dict[str, float]]] = {"first visit": [], "next visit": []}
    for _ in range(rounds):
        context = browser.new_context(locale="en-US")
        for visits in found.values():
            visits.append(open_once(context, url))
        context.close()
    return found


@dataclass(frozen=True)
class Setting:
    """`change` gives it each of `values` in turn; what `watched` selects is the answer."""

    watched: str
    change: Callable[[Page, str], None]
    values: tuple[str, str]


def _filled(name: str) -> Callable[[Page, str], None]:
    return lambda page, value: page.fill(f"#i2v-{name} :is(input, textarea)", value)


def _chosen(label: str) -> Callable[[Page, str], None]:
    def choose(page: Page, value: str) -> None:
        page.get_by_label(label, exact=True).click()
        page.get_by_role("option").filter(has_text=value).click()

    return choose


PLAN = "#i2v-plan .i2v-plan"
SETTINGS = {
    "width": Setting(PLAN, _filled("width"), ("128", "256")),
    "height": Setting(PLAN, _filled("height"), ("96", "192")),
    "frames": Setting(PLAN, _filled("frames"), ("8", "16")),
    "steps": Setting(PLAN, _filled("steps"), ("10", "20")),
    "guidance": Setting(PLAN, _filled("guidance"), ("3", "1")),
    "frames at once": Setting(PLAN, _filled("chunk_frames"), ("1", "16")),
    "preset, what auto means": Setting("#i2v-chunk_frames :is(input, textarea)", _chosen("Preset"), ("06gb", "24gb")),
    "model, its note": Setting("#i2v-model-note .i2v-note", _chosen("Model"), ("I2VGen-XL", "Nano")),
    "model, its plan": Setting(PLAN, _chosen("Model"), ("I2VGen-XL", "Nano")),
}


def answers(browser: Browser, url: str, rounds: int) -> dict[str, list[float]]:
    """Milliseconds from a change to the answer on the page, by setting; each value has been planned for before."""
    found: dict[str, list[float]] = {}
    context = browser.new_context(locale="en-US", viewport={"width": 1400, "height": 1400})
    for name, setting in SETTINGS.items():
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.goto(url)
        page.wait_for_function("document.querySelector('.i2v-line')?.textContent.match(/step [0-9]+ of/)")
        page.wait_for_function("document.querySelector('#i2v-plan .i2v-plan:not(.unknown)')")
        page.get_by_role("button", name="Advanced").click()
        page.evaluate(WATCHING, setting.watched)
        times = found[name] = []
        for number in range(2 * rounds + 2):
            setting.change(page, setting.values[number % 2])
            page.wait_for_function("window.answered > 0")
            times.append(page.evaluate("window.answered"))
            page.wait_for_timeout(PLANNING_MS if number < 2 else PAUSE_MS)
        del times[:2]
        page.close()
    context.close()
    return found


def summary(times: Sequence[float]) -> dict[str, float]:
    return {"median": round(statistics.median(times)), "most": round(max(times))}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    result: dict[str, Any] = {"cores": os.cpu_count(), "load_before": round(os.getloadavg()[0], 1), "opened": {}}
    with (
        tempfile.TemporaryDirectory() as folder,
        page_server(Path(folder)) as server,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        openings(browser, server.url, 1)  # the server's first answer is another one's to measure: bench.start_time
        result["opened"] = _told(IDLE, openings(browser, server.url, rounds))
        job_id = submit(server)
        while (state := status(server, job_id))["phase"] != "denoise":
            assert state["state"] in ("queued", "running"), state
            time.sleep(0.2)
        result["opened"] |= _told("a job runs", openings(browser, server.url, rounds))
        result["answered_ms"] = {name: summary(t) for name, t in answers(browser, server.url, rounds).items()}
        assert status(server, job_id)["phase"] == "denoise", "the job ended before the measurement did"
        browser.close()
    result["load_after"] = round(os.getloadavg()[0], 1)
    _print(result)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    opened = [visit for name, visit in result["opened"].items() if name.endswith(IDLE)]
    return int(
        any(visit["first_paint_ms"]["median"] > FIRST_PAINT_MS for visit in opened)
        or any(visit["interactive_ms"]["median"] > INTERACTIVE_MS for visit in opened)
        or any(times["median"] > ANSWER_MS for times in result["answered_ms"].values())
    )


def _told(when: str, visits: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, dict[str, float]]]:
    return {
        f"{name}, {when}": {key: summary([visit[key] for visit in found]) for key in found[0]}
        for name, found in visits.items()
    }


def _print(result: dict[str, Any]) -> None:
    print(f"{result['cores']} cores, load {result['load_before']} before and {result['load_after']} after\n")
    print(f"| ms | first paint (target {FIRST_PAINT_MS:.0f}) | most | interactive ({INTERACTIVE_MS:.0f}) | most |")
    print("|---|---|---|---|---|")
    for name, visit in result["opened"].items():
        cells = (visit[key][part] for key in ("first_paint_ms", "interactive_ms") for part in ("median", "most"))
        print(f"| {name} | {' | '.join(f'{cell:.0f}' for cell in cells)} |")
    print(f"\n| a setting changed while a job runs | answered, median ms (target {ANSWER_MS:.0f}) | most |")
    print("|---|---|---|")
    for name, times in result["answered_ms"].items():
        print(f"| {name} | {times['median']:.0f} | {times['most']:.0f} |")


if __name__ == "__main__":
    sys.exit(main())
