"""What the list of jobs costs: an acknowledged change, a look at the queue, opening it, and making it anew.

    python -m bench.job_list --jobs 2000 --in outputs

Works in a folder of its own below `--in`, whose disk is what is measured. Prints a table; exit code 1 when making the
list anew takes more than TARGET_SECONDS.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from i2v.events import MemorySampled, StateChanged, StepFinished, to_json
from i2v.jobs.store import JobStore
from i2v.jobs.stored import StoredJob
from i2v.plan import Plan
from i2v.request import GenerationRequest

TARGET_SECONDS = 30.0
QUEUED = 20  # max_queue as it ships
REQUEST = GenerationRequest("nano", "a boat on a lake, ripples, golden hour", 512, 512, 16, 8, 50, 9.0, 7)
STEP = StepFinished("denoise", 1, 50, 1.0, 1.0, 49.0)
SAMPLE = MemorySampled("denoise", 1, 2**30, 2**30, 2**31, 2**33, 2**31, "cuda")
RECORD = (
    *(StateChanged(state) for state in ("queued", "running")),
    *(event for _ in range(50) for event in (STEP, SAMPLE)),
    *(StateChanged(state) for state in ("decoding", "done")),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--in", type=Path, default=Path("outputs"), dest="folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        outputs = Path(name)
        for job in _jobs(options.jobs):
            _write_folder(outputs / job.folder, job)
        anew, store = _timed(lambda: JobStore(outputs))
        waiting = [store.add(replace(job, id=f"w{n}", state="queued")) for n, job in enumerate(_jobs(QUEUED))]
        changes = [_timed(lambda job=job: store.transition(job.id, "running"))[0] for job in waiting]
        changes += [_timed(lambda job=job: store.transition(job.id, "queued"))[0] for job in waiting]
        look = statistics.median(_timed(store.waiting)[0] for _ in range(20))
        page = statistics.median(_timed(lambda: store.jobs(limit=50))[0] for _ in range(20))
        store.close()
        size = store.path.stat().st_size / (options.jobs + QUEUED)
        again, store = _timed(lambda: JobStore(outputs))
        store.close()
    print(f"| the list with {options.jobs} jobs | |\n|---|---|")
    print(f"| a change of state, acknowledged: median | {1000 * statistics.median(changes):.1f} ms |")
    print(f"| the same, slowest of {len(changes)} | {1000 * max(changes):.1f} ms |")
    print(f"| the queue of {QUEUED} in order | {1000 * look:.1f} ms |")
    print(f"| the newest 50 jobs | {1000 * page:.1f} ms |")
    print(f"| opening it, all of it checked | {again:.2f} s |")
    print(f"| making it anew from the folders | {anew:.2f} s |")
    print(f"| on disk, per job | {size / 1024:.1f} KiB |")
    return 0 if anew <= TARGET_SECONDS else 1


def _jobs(count: int) -> Iterator[StoredJob]:
    for number in range(count):
        job_id = f"20261120-081530-{number:06x}"
        yield StoredJob(job_id, f"2026-11-20/{job_id}", REQUEST, Plan(), None, 1.8e9 + number, state="done")


def _write_folder(folder: Path, job: StoredJob) -> None:
    folder.mkdir(parents=True)
    values = {"request": job.request.to_json(), "plan": job.plan.to_json(), "job": job.ticket()}
    for name, value in values.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    lines = (json.dumps({"seq": n, "time": 1.8e9, **to_json(event)}) for n, event in enumerate(RECORD))
    (folder / "events.jsonl").write_text("\n".join(lines) + "\n")


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


if __name__ == "__main__":
    raise SystemExit(main())
