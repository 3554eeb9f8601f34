"""What holds for every test: how they are dealt to the processes, what is tried twice, and what they inherit."""

from __future__ import annotations

import gc
import json
import os
import random
import signal
import sys
import tempfile
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parents[1]
SUITE = ROOT / "bench" / "results" / "suite.json"
SECOND_TRIES = "logs/second_tries.log"
NEW_FILE_SECONDS = 5.0  # until `python -m bench.suite` has seen it

# A shell that starts a command in the background has it ignore Ctrl-C, and everything it starts inherits that. The
# tests that press Ctrl-C need their programs to hear it, wherever the tests themselves were started from.
signal.signal(signal.SIGINT, signal.default_int_handler)

# What this machine has fetched from the hub must not decide what a test sees. Before the hub's library is imported.
os.environ["HF_HUB_CACHE"] = os.path.join(tempfile.gettempdir(), "i2v-tests-no-hub-cache")
# Nor is ModelScope itself asked, by no process of theirs.
os.environ["MODELSCOPE_ENDPOINT"] = "http://127.0.0.1:9"

# No test judges time, so neither does hypothesis: a machine busy with other work is no fault of ours.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.hookimpl(trylast=True)  # after the folders' own, which add markers
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The files that take longest come first, so that both processes are busy to the end; and tests that drive
    processes or a browser get a second try."""
    try:
        seconds = json.loads(SUITE.read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError):
        seconds = {}
    items.sort(key=lambda item: -seconds.get(os.path.relpath(item.path, ROOT), NEW_FILE_SECONDS))
    if not config.pluginmanager.hasplugin("rerunfailures"):  # switched off, to see a failure at once
        return
    for item in items:
        if item.get_closest_marker("drives") or item.get_closest_marker("browser"):
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.hookimpl(tryfirst=True)  # before the fixtures, which draw as well
def pytest_runtest_setup() -> None:
    """Every test draws the same numbers each time, so that none is red once and green once. Those that are to see many
    draw them with hypothesis, or from generators of their own."""
    random.seed(0)
    for library, seed in (("numpy", "random.seed"), ("torch", "manual_seed")):
        if library in sys.modules:
            attrgetter(seed)(sys.modules[library])(0)


def pytest_collection_finish() -> None:
    """Every run of the engine collects garbage several times over. What was imported is none, a million objects that
    need not be looked at each time."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Tell of every second try, here and in logs/second_tries.log: each is a fault to be mended at its cause."""
    tries = terminalreporter.getreports("rerun")
    if not tries:
        return
    terminalreporter.section("second tries")
    path = terminalreporter.config.rootpath / SECOND_TRIES
    path.parent.mkdir(exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        for report in tries:
            reason = str(getattr(report.longrepr, "reprcrash", None) or report.longrepr).splitlines()[-1:]
            terminalreporter.write_line(f"{report.nodeid}: {''.join(reason)}")
            file.write(f"{report.nodeid}\n{report.longreprtext}\n\n")
