"""A worker that stops in the middle of a step, or holds the interpreter's lock, is ended after `hang_seconds`, and its
job goes on from what was written."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from i2v.events import Resumed
from i2v.jobs.service import JobService
from tests.faults.small import submit
from tests.faults.support import faulty_worker, latents, notes, plant, states
from tests.faulty_cards import steps
from tests.jobs_support import settings_in, wait_until
from tests.warm_support import shared

pytestmark = pytest.mark.drives

STEPS = 8


@pytest.mark.parametrize("way", ["stopped", "holds the lock"])
def test_a_worker_that_hangs(tmp_path: Path, way: str) -> None:
    settings, probe = settings_in(tmp_path, hang_seconds=3, checkpoint_seconds=0)
    faults = tmp_path / "faults.json"
    plant(faults, **({"hold": True, "phase": "denoise", "step": 3} if way == "holds the lock" else {}))
    with JobService(settings, probe, worker_command=faulty_worker(faults), start=shared().start) as service:
        job_id = submit(service, steps=STEPS)
        if way == "stopped":
            wait_until(lambda: service.status(job_id).step >= 2)
            first = service.status(job_id).worker_pid
            os.kill(first, signal.SIGSTOP)
        found = [event for _, event in service.attach(job_id)]
        assert states(found) == ["queued", "running", "decoding", "done"]
        assert notes(found).count("jobs.worker_hung") == 1
        assert notes(found).count("jobs.taken_up_again") == 1
        kept = [event.step for event in found if isinstance(event, Resumed)]
        assert len(kept) == 1
        assert kept[0] >= 1
        assert steps(found)[-1] == STEPS
        assert len(steps(found)) <= STEPS + 1  # every step was written, but the last that was told of
        harmed = latents(service.status(job_id).folder)
        plant(faults)
        again = submit(service, steps=STEPS)
        list(service.attach(again))
        assert latents(service.status(again).folder).equal(harmed)
