"""How soon processes that compute begin, and what they hold: forked from the warm parent, and as new processes.

    python -m bench.children

Runs the bundled model through the real service, both ways in turn. For each: seconds from the wish (the next job, going
on after a pause, going on after the worker was killed) to the first denoising step of the run, and the memory of all
processes that compute with a worker and a planning child that have both worked (what they share counted once: PSS).
Prints a table and writes bench/results/children.json.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psutil

from i2v.events import StepFinished
from i2v.jobs.asked.plans import Plans
from i2v.jobs.process.start import Start, start_cold
from i2v.jobs.process.warm import WarmParent
from i2v.jobs.service import JobService
from tests.faults.small import submit
from tests.jobs_support import settings_in, wait_until

ROUNDS = 3
STEPS = 8
UNPLANNED = {"width": 72, "height": 88, "frames": 3}  # not in the shipped table: asks the planning child
RESULTS = Path(__file__).parent / "results" / "children.json"


class Bed:
    """A service in a folder of its own whose worker is gone before each measurement."""

    def __init__(self, folder: Path, start: Start) -> None:
        settings, probe = settings_in(folder, checkpoint_seconds=0)
        self.service = JobService(settings, probe, start=start, plans=Plans.of(settings, start))

    def next_job(self) -> float:
        """Seconds from a request to its first step."""
        began = time.monotonic()
        job_id = submit(self.service, steps=STEPS)
        self._step_after(job_id, 0)
        seconds = time.monotonic() - began
        list(self.service.attach(job_id))
        self._end_worker()
        return seconds

    def after_pause(self) -> float:
        job_id = self._half()
        assert self.service.pause(job_id)
        wait_until(lambda: self.service.status(job_id).state == "paused")
        return self._goes_on(job_id, lambda: self.service.resume(job_id))

    def after_kill(self) -> float:
        job_id = self._half()
        pid = self.service.status(job_id).worker_pid
        return self._goes_on(job_id, lambda: os.kill(pid, signal.SIGKILL))

    def held_bytes(self) -> int:
        """By all processes that compute, once a worker and a planning child have worked."""
        job_id = submit(self.service, steps=STEPS)
        self.service.plan({"model": "nano", "prompt": "zoom in", "steps": STEPS, **UNPLANNED}, exactly=True)
        list(self.service.attach(job_id))
        return sum(child.memory_full_info().pss for child in psutil.Process().children(recursive=True))

    def _half(self) -> str:
        job_id = submit(self.service, steps=40)
        self._step_after(job_id, 2)  # so that there is progress on disk
        return job_id

    def _goes_on(self, job_id: str, act: Callable[[], object]) -> float:
        step = len(self._steps(job_id))
        began = time.monotonic()
        act()
        # A step that was on its way when the wish came is not one of the run that goes on.
        wait_until(lambda: "resumed" in (self.service.status(job_id).folder / "events.jsonl").read_text())
        resumed = len(self._steps(job_id))
        self._step_after(job_id, max(step, resumed))
        seconds = time.monotonic() - began
        assert self.service.cancel(job_id)
        list(self.service.attach(job_id))
        self._end_worker()
        return seconds

    def _end_worker(self) -> None:
        wait_until(lambda: self.service._lane.running is None)
        self.service._lane.rest()

    def _steps(self, job_id: str) -> list[StepFinished]:
        return [event for _, event in self.service.events(job_id) if isinstance(event, StepFinished)]

    def _step_after(self, job_id: str, count: int) -> None:
        wait_until(lambda: len(self._steps(job_id)) > count)


def measure(start: Start) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        bed = Bed(Path(folder), start)
        with bed.service:
            found = {
                "next_job_seconds": [bed.next_job() for _ in range(ROUNDS)],
                "after_pause_seconds": [bed.after_pause() for _ in range(ROUNDS)],
                "after_kill_seconds": [bed.after_kill() for _ in range(ROUNDS)],
            }
            held = bed.held_bytes()
    return {**{name: round(statistics.median(each), 2) for name, each in found.items()}, "held_mib": held >> 20}


def main() -> int:
    before = measure(start_cold)
    with closing(WarmParent()) as warm:
        began = time.monotonic()
        warm.warm_up().result()
        imports = time.monotonic() - began
        after = measure(warm.start)
    result = {"new_processes": before, "forked": after, "imports_of_the_warm_parent_seconds": round(imports, 1)}
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    print("| | new processes | forked |\n|---|---|---|")
    for name in before:
        print(f"| {name.replace('_', ' ')} | {before[name]} | {after[name]} |")
    print(f"The warm parent's imports took {imports:.1f} s, beside the app's start.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
