"""The disk is full at each kind of write in turn. Somebody is told in words, nothing on the disk is broken, and when
there is room again jobs go on by themselves, after a restart of the app as well."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from i2v.events import Event, Paused, StepFinished
from i2v.jobs.lane.lane import Lane
from i2v.jobs.service import JobService
from i2v.messages import UserError
from tests.faults.small import submit
from tests.faults.support import faulty_worker, latents, notes, run, states, unet_rows
from tests.faulty_cards import steps
from tests.jobs.support import small_disk
from tests.jobs_support import settings_in, wait_until
from tests.warm_support import shared

pytestmark = pytest.mark.drives

MIB = 2**20
STEPS = 6
LONG = {"width": 512, "height": 512, "frames": 16, "steps": 2}  # most of its time is decoding


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 96 MiB at the place of the outputs folder."""
    with small_disk(tmp_path / "outputs", 96 * 1024) as folder:
        yield folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> torch.Tensor:
    """The latents of a run with room for everything."""
    with JobService(*settings_in(tmp_path_factory.mktemp("room")), start=shared().start) as service:
        return latents(run(service, steps=STEPS)[0])


def open_service(folder: Path, **more: object) -> JobService:
    return JobService(
        *settings_in(folder, checkpoint_seconds=0, **more),
        worker_command=faulty_worker(folder / "none.json"),
        start=shared().start,
    )


def fill(disk: Path, leave_bytes: int = 0) -> None:
    """Leave so much room and no more."""
    with (disk / "filler").open("ab") as file:
        while (free := os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - leave_bytes) > 0:
            with suppress(OSError):  # a run wrote meanwhile: there is less than there was
                os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), free)


def make_room(disk: Path) -> None:
    (disk / "filler").unlink()


def wait_for(service: JobService, job_id: str, kind: type[Event], seconds: float = 60) -> Event:
    """The first event of that kind, as soon as it has come."""
    found: list[Event] = []

    def look() -> bool:
        found.extend(event for _, event in service.events(job_id) if isinstance(event, kind))
        return bool(found)

    wait_until(look, seconds)
    return found[0]


def sound(disk: Path) -> None:
    """Every file of every job can be read, and the list is whole."""
    for path in disk.glob("2*/*/events.jsonl"):
        numbers = [json.loads(line)["seq"] for line in path.read_text().splitlines()]
        assert numbers == sorted(numbers)
    for path in disk.glob("2*/*/*.json"):
        json.loads(path.read_text())
    for path in disk.glob("2*/*/latents.safetensors"):
        assert torch.isfinite(latents(path.parent)).all()
    assert not list(disk.glob("2*/*/.*part*"))
    list_ = sqlite3.connect(f"file:{disk}/.i2v/jobs.sqlite?mode=ro&immutable=1", uri=True)
    assert list_.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    list_.close()


def test_a_job_folder(disk: Path, tmp_path: Path) -> None:
    with open_service(tmp_path) as service:
        service.pause_queue()
        fill(disk)
        with pytest.raises(UserError) as caught:
            submit(service)
        assert caught.value.message.id == "jobs.outputs_full"
        assert service.jobs() == []
        make_room(disk)
        job_id = submit(service)
        assert [job.id for job in service.jobs()] == [job_id]
    assert len(list(disk.glob("2*/*"))) == 1
    sound(disk)


def test_the_list(disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job's turn comes when the list takes no change: it stays in line, says so, and runs when there is room. An app
    that is started meanwhile says what is wrong and changes nothing."""
    with monkeypatch.context() as patch, open_service(tmp_path) as service:
        patch.setattr(Lane, "_first_waiting", lambda _lane: None)
        job_id = submit(service)
    fill(disk)
    with pytest.raises(UserError) as caught:
        open_service(tmp_path)
    assert caught.value.message.id == "jobs.outputs_full"
    make_room(disk)
    with monkeypatch.context() as patch:
        patch.setattr(Lane, "_first_waiting", lambda _lane: None)
        service = open_service(tmp_path)
        fill(disk)
    with service:
        with service._board.changed:
            service._board.changed.notify_all()
        wait_until(lambda: "jobs.outputs_full" in notes([event for _, event in service.events(job_id)]))
        assert service.status(job_id).state == "queued"
        make_room(disk)
        found = [event for _, event in service.attach(job_id)]
        assert states(found) == ["queued", "running", "decoding", "done"]
    sound(disk)


def test_events_checkpoint_preview_and_latents(disk: Path, tmp_path: Path, whole: torch.Tensor) -> None:
    """Full from the first step on: the run goes on, waits with its finished latents, and makes no step again."""
    with open_service(tmp_path) as service:
        job_id = submit(service, steps=STEPS)
        wait_for(service, job_id, StepFinished)
        fill(disk)
        wait_until(lambda: "engine.latents_not_saved" in notes([e for _, e in service.events(job_id)]))
        assert service.status(job_id).state == "running"
        make_room(disk)
        found = [event for _, event in service.attach(job_id)]
        folder = service.status(job_id).folder
    assert states(found) == ["queued", "running", "decoding", "done"]
    assert notes(found).count("engine.checkpoint_not_saved") == 1
    assert notes(found).count("jobs.record_incomplete") == 1
    assert steps(found) == list(range(1, STEPS + 1))
    assert unet_rows(folder) <= 2 * STEPS
    assert torch.equal(latents(folder), whole)
    sound(disk)
    # What could not be written at once was written later: the folder tells the whole story.
    told = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert [line["seq"] for line in told] == list(range(len(found)))
    assert [line["index"] for line in told if line["type"] == "step_finished" and line["phase"] == "denoise"] == list(
        range(1, STEPS + 1)
    )


@pytest.mark.parametrize("restarted", [False, True], ids=["the app goes on", "the app is started again"])
def test_the_video(disk: Path, tmp_path: Path, restarted: bool) -> None:
    """The job is laid down with a message, and decoded from its latents when there is room."""
    service = open_service(tmp_path)
    try:
        job_id = submit(service, **LONG)
        wait_until(lambda: service.status(job_id).state == "decoding")
        fill(disk)
        paused = wait_for(service, job_id, Paused)
        assert paused.message is not None
        assert paused.message.id in ("video.disk_full", "worker.disk_full")
        wait_until(lambda: service.status(job_id).state == "paused")
        made = unet_rows(service.status(job_id).folder)
        if restarted:
            os.truncate(disk / "filler", (disk / "filler").stat().st_size - MIB)  # for the list, not to go on
            wait_until(lambda: service._board.store.get(job_id).state == "paused")
            service.close()
            service = open_service(tmp_path)
            assert service.status(job_id).state == "paused"
        make_room(disk)
        found = [event for _, event in service.attach(job_id)]
        assert states(found)[-1] == "done"
        assert unet_rows(service.status(job_id).folder) == made == 2 * 2
        assert states(found).count("paused") == 1
    finally:
        service.close()
    sound(disk)


def test_the_cache(disk: Path, tmp_path: Path, whole: torch.Tensor) -> None:
    """What was encoded cannot be kept: it is encoded again next time."""
    with open_service(tmp_path) as service:
        (disk / ".i2v" / "cache").symlink_to("/dev/full/cache")
        folder, found = run(service, steps=STEPS)
        assert states(found) == ["queued", "running", "decoding", "done"]
        assert torch.equal(latents(folder), whole)
    sound(disk)
