"""What the tests of the list of jobs share: jobs out of thin air, with their folders or without, and small disks."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from i2v.events import Cancelled, Done, Event, Failed, StateChanged
from i2v.jobs.job.folder import create_job_folder, folder_name
from i2v.jobs.job.record import JobRecord
from i2v.jobs.job.stored import StoredJob
from i2v.messages import message
from i2v.models.entry import ModelEntry
from i2v.plan import Plan
from i2v.request import GenerationRequest

DAY = datetime(2026, 11, 20, 8, 15, 30)
REQUEST = GenerationRequest("nano", "a boat \ud800 小船", 64, 64, 4, 8, 5, 1.5, 7)
PLAN = Plan(chunk_frames=3)
ENTRY = ModelEntry("nano", "nano", "Nano", Path("/models/nano"), None, True, 12, message("models.unknown", name="x"))

_numbers = itertools.count()


def new_job(owner: str = "local", **more: Any) -> StoredJob:
    """A job that has just been submitted; nothing on disk."""
    number = next(_numbers)
    job_id = f"20261120-081530-{number:06x}"
    values = {"id": job_id, "folder": folder_name(job_id, DAY), "submitted": DAY.timestamp() + number}
    return StoredJob(**{**values, "request": REQUEST, "plan": PLAN, "entry": ENTRY, "owner": owner, **more})


def with_folder(outputs: Path, job: StoredJob, *happened: Event) -> JobRecord:
    """The job's folder as the service makes it, with what happened in its record."""
    create_job_folder(outputs, job.id, DAY, job.request, job.plan, None, job.ticket())
    record = JobRecord(job.id, outputs.absolute() / job.folder, job.request, job.plan, job.entry, job.owner)
    for event in happened:
        record.append(event)
    return record


def ran_to(state: str) -> tuple[Event, ...]:
    """What a record says of a job that is now in `state`."""
    queued, running, decoding = map(StateChanged, ("queued", "running", "decoding"))
    return {
        "queued": (queued,),
        "running": (queued, running),
        "decoding": (queued, running, decoding),
        "paused": (queued, running, StateChanged("paused")),
        "done": (queued, running, decoding, Done("video.mp4", 1.5, 4)),
        "failed": (queued, running, Failed(message("engine.not_finite", precision="float16"))),
        "cancelled": (queued, Cancelled(0)),
    }[state]


@contextmanager
def small_disk(folder: Path, kib: int) -> Iterator[Path]:
    """A disk of its own at `folder`."""
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "none", folder], capture_output=True)
    if made.returncode:
        pytest.skip("only root may mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """The disk of `folder` without a free byte."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    try:
        yield
    finally:
        filler.unlink()
