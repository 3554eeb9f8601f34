"""Hundreds of small jobs through one service and one worker: what grows that should not.

    python -m bench.soak --jobs 500

Mixed sizes and lengths; one in twenty is cancelled, one in twenty fails on purpose. After a fifth of the jobs, the
warm-up, memory of both processes, open files and processes are read after every job that was done. Prints a table,
writes bench/results/soak.json, exits 1 where memory grows by more than GROWTH_SHARE (last quarter of the readings
against the first, by median) or a file or process is left over.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from i2v.jobs.service import JobService
from tests.faults.small import submit
from tests.jobs_support import settings_in, wait_until

GROWTH_SHARE = 0.05
RESULTS = Path(__file__).parent / "results" / "soak.json"


@dataclass(frozen=True)
class Reading:
    """Between two jobs. `service` is the process of the page."""

    service_rss_bytes: int
    worker_rss_bytes: int
    service_files: int
    worker_files: int
    processes: int
    service_threads: int
    worker_threads: int


def read(worker_pid: int) -> Reading:
    service, worker = psutil.Process(), psutil.Process(worker_pid)
    return Reading(
        service.memory_info().rss, worker.memory_info().rss, service.num_fds(), worker.num_fds(),
        len(service.children(recursive=True)), service.num_threads(), worker.num_threads(),
    )  # fmt: skip


def one_job(service: JobService, number: int, chance: random.Random) -> str:
    """Run one to its end; its state."""
    job_id = submit(
        service, width=64 * chance.randint(1, 3), height=64 * chance.randint(1, 3), frames=chance.randint(1, 3),
        steps=chance.randint(1, 3), guidance=1.0, seed=number, prompt=chance.choice(["zoom in", "pan left", "waves"]),
    )  # fmt: skip
    if number % 20 == 7:
        service.cancel(job_id)
    elif number % 20 == 13:
        (service.status(job_id).folder / "input.png").write_bytes(b"no picture")
    list(service.attach(job_id))
    return service.status(job_id).state


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=500)
    options = parser.parse_args()
    chance, ended, readings = random.Random(0), Counter(), []
    with tempfile.TemporaryDirectory() as name:
        settings, probe = settings_in(Path(name))
        began = time.monotonic()
        with JobService(settings, probe) as service:
            workers = set()
            for number in range(options.jobs):
                state = one_job(service, number, chance)
                ended[state] += 1
                pid = service.jobs(limit=1)[0].worker_pid
                if state == "done":
                    workers.add(pid)
                    if number >= options.jobs // 5:
                        wait_until(lambda pid=pid: psutil.Process(pid).children() == [])
                        readings.append(read(pid))
                if number % 50 == 49:
                    print(f"{number + 1} jobs, {time.monotonic() - began:.0f} s, {readings[-1:]}", flush=True)
        left = [process.pid for process in psutil.Process().children(recursive=True)]
        parts = [str(path) for path in Path(name).rglob(".*.part*")]
    quarter = max(1, len(readings) // 4)
    table = {}
    for field in asdict(readings[0]):
        first, last = (
            statistics.median(getattr(reading, field) for reading in part)
            for part in (readings[:quarter], readings[-quarter:])
        )
        table[field] = {"after_warm_up": int(first), "at_the_end": int(last), "growth": round(last / first - 1, 4)}
    result = {
        "jobs": options.jobs, "ended": dict(ended), "workers": len(workers), "processes_left": len(left),
        "unfinished_files_left": len(parts), "seconds": round(time.monotonic() - began), "readings": table,
    }  # fmt: skip
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    print(f"{options.jobs} jobs: {dict(ended)}; {len(workers)} worker")
    print("| | after warm-up | at the end | growth |\n|---|---|---|---|")
    for field, figures in table.items():
        print(f"| {field} | {figures['after_warm_up']} | {figures['at_the_end']} | {100 * figures['growth']:.1f} % |")
    grown = [field for field, figures in table.items() if field.endswith("bytes") and figures["growth"] > GROWTH_SHARE]
    leaked = [field for field, figures in table.items() if not field.endswith("bytes") and figures["growth"] > 0]
    print("grown:", grown or "nothing", "| left over:", [*leaked, *left, *parts] or "nothing")
    return int(bool(grown or leaked or left or parts or len(workers) > 1))


if __name__ == "__main__":
    sys.exit(main())
