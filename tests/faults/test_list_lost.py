"""The list of jobs is cut, overwritten or deleted between two starts of the app: all jobs are there again, what had
ended is as it ended, and what waited runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from i2v.jobs.service import JobService
from tests.faults.small import submit
from tests.faults.support import run, states
from tests.jobs_support import settings_in
from tests.warm_support import shared

pytestmark = pytest.mark.drives


def harm(path: Path, how: str) -> None:
    beside = [path, *path.parent.glob(f"{path.name}-*")]
    if how == "deleted":
        for one in beside:
            one.unlink()
    elif how == "cut":
        os.truncate(path, path.stat().st_size // 2)
    elif how == "noise":
        path.write_bytes(os.urandom(path.stat().st_size))
    else:
        path.write_bytes(b"")


def test_the_list_is_lost(tmp_path: Path) -> None:
    settings, probe = settings_in(tmp_path)
    path = settings.outputs_dir / ".i2v" / "jobs.sqlite"
    with JobService(settings, probe, start=shared().start) as service:
        done = run(service, steps=2)[0].name
        service.pause_queue()  # forgotten with the list
        cancelled, paused = submit(service), submit(service)
        service.cancel(cancelled)
        service.pause(paused)
        waiting = submit(service, steps=2, owner="another")
    before = {done: "done", cancelled: "cancelled", paused: "paused"}
    for how in ("deleted", "cut", "noise", "empty"):
        harm(path, how)
        with JobService(settings, probe, own_jobs_only=True, start=shared().start) as service:
            found = {job.id: job.state for job in service.jobs()}
            assert found == {**before, waiting: "queued"}, how
            assert service.status(waiting).owner == "another"
            assert service.result(done).is_file()
    harm(path, "deleted")
    with JobService(settings, probe, start=shared().start) as service:
        assert states([event for _, event in service.attach(waiting)])[-1] == "done"
        assert service.resume(paused)
        assert states([event for _, event in service.attach(paused)])[-1] == "done"
        assert {job.state for job in service.jobs()} == {"done", "cancelled"}
        assert len(service.jobs()) == 4


@pytest.mark.parametrize("how", ["deleted", "noise"])
def test_the_list_is_lost_while_a_job_was_at_work(tmp_path: Path, how: str) -> None:
    """As a power cut leaves it: the record says that the job was running."""
    settings, probe = settings_in(tmp_path)
    with JobService(settings, probe, own_jobs_only=True, start=shared().start) as service:
        service.pause_queue()
        job_id = submit(service, steps=2)
        folder = service.status(job_id).folder
    with (folder / "events.jsonl").open("a") as file:
        file.write('{"seq": 8, "time": 1.0, "type": "state_changed", "state": "running"}\n{"seq": 9, "ti')
    harm(settings.outputs_dir / ".i2v" / "jobs.sqlite", how)
    with JobService(settings, probe, start=shared().start) as service:
        found = [event for _, event in service.attach(job_id)]
        assert states(found) == ["queued", "running", "queued", "running", "decoding", "done"]
        assert len(service.jobs()) == 1
