"""What the tests of faults share: what became of a small job, and the faulty worker."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from i2v.engine.checkpoint import LATENTS
from i2v.events import Event, Noted, StateChanged
from i2v.jobs.service import JobService
from tests.faults.small import submit
from tests.faults.worker import ROWS
from tests.latents import load_latents

SCRIPT = Path(__file__).with_name("worker.py")


def follow(service: JobService, job_id: str) -> list[Event]:
    """The job's events, once it has ended."""
    return [event for _, event in service.attach(job_id)]


def run(service: JobService, **more: Any) -> tuple[Path, list[Event]]:
    """Run a job to its end: its folder, and its events."""
    job_id = submit(service, **more)
    found = follow(service, job_id)
    return service.status(job_id).folder, found


def faulty_worker(file: Path) -> tuple[str, ...]:
    """The command of a worker whose faults stand in `file`."""
    return (sys.executable, str(SCRIPT), str(file))


def plant(file: Path, **told: Any) -> None:
    """What the next run is to suffer; nothing without arguments."""
    file.write_text(json.dumps(told))


def states(events: list[Event]) -> list[str]:
    return [event.state for event in events if isinstance(event, StateChanged)]


def notes(events: list[Event]) -> list[str]:
    return [event.message.id for event in events if isinstance(event, Noted)]


def latents(folder: Path) -> torch.Tensor:
    return load_latents(folder / LATENTS)


def unet_rows(folder: Path) -> int:
    """Batch rows that went through the UNet: two for each step under guidance, in one call or in two."""
    path = folder / ROWS
    return path.stat().st_size if path.exists() else 0
