"""How long the tests take, by file and by test.

    python -m bench.suite [--busy] [--runs N] [--write]
    python -m bench.suite --from REPORT --write

Runs `bash run_tests.sh` as it is, N times, with --busy beside two loops that take all of the processor they can get.
Prints one line for each run. With --write the newest run's seconds by file and by test go to bench/results/suite.json,
by which tests/conftest.py deals the files, and the lines to bench/results/suite_runs.json; the files that took longest
are printed. With --from nothing runs: the seconds are those in the report of an earlier run of everything (pytest's
--junitxml). Exits 1 where a run failed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import subprocess
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

ROOT = Path(__file__).parents[1]
SECONDS = ROOT / "bench" / "results" / "suite.json"
RUNS = SECONDS.with_name("suite_runs.json")
FASTEST_TOLD_SECONDS = 1.0  # tests under this are left out of the file


@dataclass(frozen=True)
class Run:
    """One run of everything. `second_tries`: the tests that passed only when tried again."""

    day: str
    busy: bool
    seconds: int
    passed: int
    failed: int
    skipped: int
    second_tries: tuple[str, ...]


def run_once(busy: bool) -> tuple[Run, dict[str, float]]:
    """One run and its seconds by test."""
    with tempfile.TemporaryDirectory() as folder, _loops(2 if busy else 0):
        report = Path(folder) / "report.xml"
        began = time.monotonic()
        shown = subprocess.run(
            ["bash", "run_tests.sh", f"--junitxml={report}"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        seconds = time.monotonic() - began
        if shown.returncode:
            print(shown.stdout[-6000:], shown.stderr[-2000:])
        if not report.is_file():
            raise SystemExit("the tests did not run")
        suite = read_report(report)
    count = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
    failed = count["failures"] + count["errors"]
    told = re.search(r"=+ second tries =+\n(.*?)\n=", shown.stdout, re.DOTALL)
    tries = tuple(line.partition(": ")[0] for line in told[1].splitlines()) if told else ()
    passed = count["tests"] - failed - count["skipped"]
    run = Run(date.today().isoformat(), busy, round(seconds), passed, failed or int(shown.returncode != 0),
              count["skipped"], tries)  # fmt: skip
    return run, seconds_by_test(suite)


def read_report(report: Path) -> ElementTree.Element:
    """What pytest's report tells of its tests."""
    suite = ElementTree.parse(report).getroot().find("testsuite")
    if suite is None:
        raise SystemExit(f"{report} is no report of tests")
    return suite


def seconds_by_test(suite: ElementTree.Element) -> dict[str, float]:
    """Seconds of set-up, call and tear-down of each test that pytest's report tells of."""
    found: dict[str, float] = defaultdict(float)
    for case in suite.iter("testcase"):
        path = case.get("classname", "").replace(".", "/") + ".py"
        found[f"{path}::{case.get('name')}"] += float(case.get("time", 0))
    return found


def seconds_by_file(by_test: dict[str, float]) -> dict[str, float]:
    """The longest first."""
    by_file: dict[str, float] = defaultdict(float)
    for name, seconds in by_test.items():
        by_file[name.partition("::")[0]] += seconds
    return {name: round(seconds, 1) for name, seconds in sorted(by_file.items(), key=lambda one: -one[1])}


def write_seconds(by_test: dict[str, float]) -> dict[str, float]:
    """Keep the seconds by file and by test; those by file, the longest first."""
    files = seconds_by_file(by_test)
    slow = {name: round(seconds, 1) for name, seconds in by_test.items() if seconds >= FASTEST_TOLD_SECONDS}
    tests = dict(sorted(slow.items(), key=lambda one: -one[1]))
    SECONDS.write_text(json.dumps({"files": files, "tests": tests}, indent=1) + "\n", encoding="utf-8")
    return files


@contextmanager
def _loops(count: int):
    """So many processes that compute without end."""
    loops = [multiprocessing.Process(target=_loop, daemon=True) for _ in range(count)]
    for loop in loops:
        loop.start()
    yield
    for loop in loops:
        loop.kill()


def _loop() -> None:
    while True:
        pass


def _tell(by_test: dict[str, float], *, write: bool) -> None:
    """Print the files that took longest, and with `write` keep the seconds."""
    by_file = write_seconds(by_test) if write else seconds_by_file(by_test)
    for name, seconds in list(by_file.items())[:30]:
        print(f"{seconds:7.1f}  {name}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--from", dest="report", type=Path, metavar="REPORT")
    options = parser.parse_args()
    if options.report is not None:
        _tell(seconds_by_test(read_report(options.report)), write=options.write)
        return 0
    runs = []
    for _ in range(options.runs):
        run, by_test = run_once(options.busy)
        runs.append(run)
        print(json.dumps(asdict(run)), flush=True)
    if options.write:
        _tell(by_test, write=True)
        earlier = json.loads(RUNS.read_text(encoding="utf-8")) if RUNS.is_file() else []
        RUNS.write_text(json.dumps([*earlier, *map(asdict, runs)], indent=1) + "\n", encoding="utf-8")
    return 1 if any(run.failed for run in runs) else 0


if __name__ == "__main__":
    raise SystemExit(main())
