"""What the list of jobs costs: an acknowledged change, a look at the queue, opening it, and making it anew; and what
open pages ask of it all the time.

    python -m bench.job_list --jobs 2000 --queued 200 --tabs 50 --in outputs

Works in a folder of its own below `--in`, whose disk is what is measured. Prints two tables, the second in processor
time, and writes that one to bench/results/job_list.json. Exit code 1 when making the list anew takes more than
TARGET_SECONDS, or the tabs together more than TARGET_SHARE of a core.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from i2v.events import Event, MemorySampled, StateChanged, StepFinished, to_json
from i2v.jobs.job.record import JobStatus
from i2v.jobs.job.stored import StoredJob
from i2v.jobs.list import schema
from i2v.jobs.list.store import JobStore
from i2v.jobs.service import JobService
from i2v.plan import Plan
from i2v.request import GenerationRequest
from i2v.settings.settings import settings_and_probe

TARGET_SECONDS = 30.0
TARGET_SHARE = 1.0
RESULTS = Path(__file__).parent / "results" / "job_list.json"
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
    parser.add_argument("--queued", type=int, default=200)
    parser.add_argument("--tabs", type=int, default=50)
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
        look = statistics.median(_timed(store.waiting)[0] for _ in range(20) if _forget(store))
        page = statistics.median(_timed(lambda: store.jobs(limit=50))[0] for _ in range(20) if _forget(store))
        store.close()
        size = store.path.stat().st_size / (options.jobs + QUEUED)
        _forget(store)
        again, store = _timed(lambda: JobStore(outputs))
        store.close()
    print(f"| the list with {options.jobs} jobs | |\n|---|---|")
    print(f"| a change of state, acknowledged: median | {1000 * statistics.median(changes):.1f} ms |")
    print(f"| the same, slowest of {len(changes)} | {1000 * max(changes):.1f} ms |")
    print(f"| the queue of {QUEUED} in order | {1000 * look:.1f} ms |")
    print(f"| the newest 50 jobs | {1000 * page:.1f} ms |")
    print(f"| opening it, all of it checked | {again:.2f} s |")
    print(f"| making it anew from the folders | {anew:.2f} s |")
    print(f"| on disk, per job | {size / 1024:.1f} KiB |\n")
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        asked = _asked_by_tabs(Path(name), options.queued, options.tabs)
    print(f"| {options.queued} queued jobs, {options.tabs} tabs, {asked['cores']} cores | |\n|---|---|")
    for key, value in asked.items():
        if key.endswith("_ms"):
            print(f"| {key[:-3].replace('_', ' ')} | {value:.2f} ms of processor |")
    for tab in ("create", "queue"):
        print(f"| all tabs on {tab.title()} | {asked[f'all_tabs_on_{tab}_share']:.0%} of a core |")
    RESULTS.write_text(json.dumps(asked, indent=2) + "\n", encoding="utf-8")
    busiest = max(value for key, value in asked.items() if key.endswith("_share"))
    return 0 if anew <= TARGET_SECONDS and busiest <= TARGET_SHARE else 1


def _asked_by_tabs(folder: Path, queued: int, tabs: int) -> dict[str, Any]:
    """What one question of each kind takes, and what all tabs take together, each as often as it asks."""
    import gradio as gr

    from i2v.ui import page
    from i2v.ui.queue import tab as queue_tab
    from i2v.ui.shown.posters import Posters
    from i2v.ui.shown.view import Shown
    from i2v.ui.texts import build_i18n

    places = {f"{name}_dir": str(folder / name) for name in ("outputs", "models", "logs")}
    settings, probe = settings_and_probe(
        config_path=folder / "config.yaml", environ={}, overrides={"cpu": True, "max_queue": queued, **places}
    )
    with JobService(settings, probe) as service:
        service.pause_queue()
        for job in _jobs(queued):
            _write_folder(settings.outputs_dir / job.folder, job, RECORD[:1])
            service._board.store.add(replace(job, state="queued", seconds_predicted=20.0))
        last = service.jobs()[-1].id
        shown = page._Page(service, settings, probe)
        with gr.Blocks(), gr.Tabs() as parts, gr.Tab() as part:
            language = gr.Radio(["en"])
            queue = queue_tab.QueueTab(service, Posters(), parts, part, language, "en", build_i18n())
        create = shown._look(None, last, Shown(), "en")[0]
        drawn = queue.look(None, queue_tab.QueueShown(), {}, "en")[0]

        def changed() -> None:
            service._board.store.set_priority(last, 0)
            service.jobs()

        found = {
            "queued": queued,
            "tabs": tabs,
            "cores": os.cpu_count(),
            "every_job_one_by_one_as_it_was_ms": _processor_ms(lambda: _one_by_one(service), 1),
            "every_job_ms": _processor_ms(service.jobs, 20),
            "every_job_after_a_change_ms": _processor_ms(changed, 20),
            "one_waiting_job_ms": _processor_ms(lambda: service.status(last), 50),
            "a_look_of_create_ms": _processor_ms(lambda: shown._look(None, last, create, "en"), 50),
            "a_look_of_queue_ms": _processor_ms(lambda: queue.look(None, drawn, {}, "en"), 20),
        }
    for tab, tick in (("create", page.TICK_SECONDS), ("queue", queue_tab.TICK_SECONDS)):
        found[f"all_tabs_on_{tab}_share"] = round(tabs * found[f"a_look_of_{tab}_ms"] / 1000 / tick, 3)
    return found


def _one_by_one(service: JobService) -> list[JobStatus]:
    """Every job as it was told until it was told in one pass: for each the whole line was read and put in order."""
    told = []
    for job in service._board.store.jobs():
        _forget(service._board.store)
        told.append(service.status(job.id))
    return told


def _jobs(count: int) -> Iterator[StoredJob]:
    for number in range(count):
        job_id = f"20261120-081530-{number:06x}"
        yield StoredJob(job_id, f"2026-11-20/{job_id}", REQUEST, Plan(), None, 1.8e9 + number, state="done")


def _write_folder(folder: Path, job: StoredJob, happened: Sequence[Event] = RECORD) -> None:
    folder.mkdir(parents=True)
    values = {"request": job.request.to_json(), "plan": job.plan.to_json(), "job": job.ticket()}
    for name, value in values.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    lines = (json.dumps({"seq": n, "time": 1.8e9, **to_json(event)}) for n, event in enumerate(happened))
    (folder / "events.jsonl").write_text("\n".join(lines) + "\n")


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def _forget(store: JobStore) -> bool:
    """Have the list read anew what it has read before."""
    store._queue = None
    schema._job_in.cache_clear()
    return True


def _processor_ms(call: Callable[[], Any], times: int) -> float:
    """The mean, of this process alone: other programs on the machine do not count."""
    start = time.process_time()
    for _ in range(times):
        call()
    return round(1000 * (time.process_time() - start) / times, 2)


if __name__ == "__main__":
    raise SystemExit(main())
