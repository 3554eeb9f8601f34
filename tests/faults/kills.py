"""Killing the worker, or the app with it, at a moment of a job's life, and what came of it. Tests kill a few times,
`python -m bench.faults` many."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from i2v.events import Done, Event, Resumed, StepFinished
from i2v.jobs.job.history import Recorded, read_history
from i2v.jobs.list.rebuild import job_folders
from i2v.jobs.list.store import JobStore
from i2v.jobs.service import JobService
from tests.faults.small import submit
from tests.faults.support import latents
from tests.jobs_support import wait_until

APP = Path(__file__).with_name("app.py")


@dataclass(frozen=True)
class WorkerKill:
    """`reached`: denoising steps finished when the kill came, `kept`: those that the next run had not to make again,
    which cost `redone_seconds`; `step_seconds` is the longest step. `back_seconds`: from the kill to the first step
    after it, or the end. `same`: the latents are those of the uninterrupted run, bit for bit."""

    state: str
    reached: int
    kept: int
    redone_seconds: float
    step_seconds: float
    back_seconds: float
    dones: int
    same: bool


def kill_worker(
    service: JobService, after_seconds: float, whole: torch.Tensor, after_steps: int = 0, **more: object
) -> WorkerKill:
    """Run a job and kill its worker `after_seconds` after it has taken the job up and made `after_steps`."""
    job_id = submit(service, **more)
    wait_until(lambda: service.status(job_id).worker_pid and service.status(job_id).step >= after_steps)
    pid, killed = service.status(job_id).worker_pid, 0.0

    def kill() -> None:
        nonlocal killed
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        killed = time.time()

    timer = threading.Timer(after_seconds, kill)
    timer.start()
    list(service.attach(job_id))
    timer.join()
    status = service.status(job_id)
    seen = list(read_history(status.folder))
    before, after = _at_death(seen, pid_died=killed)
    made = _steps(before)
    reached = max((step.index for step in made), default=0)
    kept = next((one.event.step for one in after if isinstance(one.event, Resumed)), 0) if after else reached
    longest = max((step.seconds for step in _steps(seen)), default=0.0)
    back = next((one.time for one in after if isinstance(one.event, StepFinished | Done)), killed)
    return WorkerKill(
        state=status.state,
        reached=reached,
        kept=kept,
        redone_seconds=sum(step.seconds for step in made if step.index > kept),
        step_seconds=longest,
        back_seconds=max(0.0, back - killed),
        dones=sum(isinstance(one.event, Done) for one in seen),
        same=torch.equal(latents(status.folder), whole),
    )


def _at_death(seen: list[Recorded], pid_died: float) -> tuple[list[Recorded], list[Recorded]]:
    """What was recorded of the run that was killed, and of the one after it; the latter empty where the job was done
    before."""
    for number, one in enumerate(seen):
        if getattr(getattr(one.event, "message", None), "id", "") == "jobs.worker_killed":
            return seen[:number], seen[number:]
    return [one for one in seen if one.time <= pid_died], []


def _steps(seen: list[Recorded]) -> list[StepFinished]:
    return [one.event for one in seen if isinstance(one.event, StepFinished) and one.event.phase == "denoise"]


class App:
    """The app as a child with a process group of its own."""

    def __init__(self, folder: Path, checkpoint_seconds: float, jobs: int = 0, steps: int = 8) -> None:
        self.folder = folder
        self.started = time.time()
        self.process = subprocess.Popen(
            [sys.executable, str(APP), str(folder), str(checkpoint_seconds), str(jobs), str(steps)],
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"
        self.ready = time.time()

    def kill(self) -> float:
        """End it as a power cut would; the seconds its worker outlived it."""
        workers = psutil.Process(self.process.pid).children(recursive=True)
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        began = time.monotonic()
        psutil.wait_procs(workers, timeout=60)  # how long they take is for the bench to say
        assert not any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers)
        return time.monotonic() - began

    def wait(self, seconds: float) -> int:
        return self.process.wait(seconds)


def events_since(folder: Path, since: float) -> Iterator[tuple[float, Event]]:
    """What jobs of `folder` recorded after `since`."""
    for job in job_folders(folder / "outputs"):
        for one in read_history(job):
            if one.time >= since:
                yield one.time, one.event


def first_step(folder: Path, since: float) -> float | None:
    """When the first step after `since` was finished, or a job ended."""
    return min(
        (at for at, event in events_since(folder, since) if isinstance(event, StepFinished | Done)), default=None
    )


@dataclass(frozen=True)
class AppKills:
    """`lost`: jobs that are not done in the end, `doubled`: done more than once, or twice in the list. `back_seconds`:
    from each restart (of the process) to its first step. `outlived_seconds`: the worker's after its app's end, at
    most."""

    jobs: int
    kills: int
    lost: int
    doubled: int
    different: int
    back_seconds: tuple[float, ...]
    outlived_seconds: float


def kill_app(folder: Path, waits: list[float], jobs: int, wholes: list[torch.Tensor], steps: int = 8) -> AppKills:
    """Run `jobs` jobs with the app killed after each of `waits` (seconds it has served), then to the end. `wholes`
    are the latents of uninterrupted runs of the jobs, one for each seed."""
    back, outlived = [], 0.0
    app = App(folder, 0.3, jobs, steps)
    kills = 0
    for wait in waits:
        if _ends_within(app, wait):
            break
        outlived = max(outlived, app.kill())
        kills += 1
        app = App(folder, 0.3)
        wait_until(lambda app=app: first_step(folder, app.started) or app.process.poll() is not None)
        if (at := first_step(folder, app.started)) is not None:
            back.append(at - app.started)
    assert app.wait(600) == 0
    with JobStore(folder / "outputs") as store:
        rows = store.jobs()
    dones = {
        job.id: sum(isinstance(one.event, Done) for one in read_history(folder / "outputs" / job.folder))
        for job in rows
    }
    different = sum(not torch.equal(latents(folder / "outputs" / job.folder), wholes[job.request.seed]) for job in rows)
    return AppKills(
        jobs=len(rows),
        kills=kills,
        lost=jobs - sum(job.state == "done" for job in rows),
        doubled=len(list(job_folders(folder / "outputs"))) - jobs + sum(count > 1 for count in dones.values()),
        different=different,
        back_seconds=tuple(back),
        outlived_seconds=outlived,
    )


def _ends_within(app: App, seconds: float) -> bool:
    try:
        app.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True
