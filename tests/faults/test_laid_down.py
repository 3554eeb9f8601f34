"""Jobs that are laid down and taken up again, whoever wished it: the same bytes, and the memory given back meanwhile.
Whose turn it is, doing a job again, and jobs that fail beside others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

from i2v.events import Paused, Resumed, StepFinished
from i2v.hardware.nvml import Gpu, GpuProcess
from i2v.hardware.probe import MemoryProbe, Probe
from i2v.jobs.asked.prepare import build_plan
from i2v.jobs.lane import waits
from i2v.jobs.service import JobService
from i2v.messages import UserError
from tests.faults.small import nano, submit
from tests.faults.support import faulty_worker, follow, latents, plant, run, states, unet_rows
from tests.faulty_cards import steps
from tests.jobs_support import settings_in, wait_until
from tests.photos import photograph
from tests.warm_support import shared

pytestmark = pytest.mark.drives

GIB = 2**30
STEPS = 8


class Shared(MemoryProbe):
    """This machine, with a card of 8 GiB beside it that other programs use as well. Jobs run on the processor."""

    def __init__(self, probe: MemoryProbe) -> None:
        self._probe = probe
        self.others_bytes = 0

    def read(self) -> Probe:
        other = GpuProcess(pid=1, name="blender", used_bytes=self.others_bytes)
        card = Gpu(
            index=0, uuid="GPU-1", name="card", total_bytes=8 * GIB, free_bytes=8 * GIB - self.others_bytes,
            used_bytes=self.others_bytes, processes=(other,),
        )  # fmt: skip
        found = self._probe.read()
        # The plan is the processor's: it is made from what `gpus` says, and there is no card to compute on.
        return replace(found, gpus=(), gpu=card)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobService]:
    folder = tmp_path_factory.mktemp("laid_down")
    settings, probe = settings_in(folder, max_queue_per_owner=2)
    worker = faulty_worker(folder / "faults.json")
    with JobService(settings, probe, worker_command=worker, start=shared().start) as service:
        service.faults = folder / "faults.json"
        yield service


@pytest.fixture(scope="module")
def whole(service: JobService) -> torch.Tensor:
    return latents(run(service, steps=STEPS)[0])


def at_step(service: JobService, job_id: str, step: int = 2) -> psutil.Process:
    """The worker, once the job has made so many steps."""
    wait_until(lambda: service.status(job_id).step >= step)
    return psutil.Process(service.status(job_id).worker_pid)


def gone(worker: psutil.Process) -> bool:
    return not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("way", ["pause", "lend_card"])
def test_laid_down_and_taken_up(service: JobService, whole: torch.Tensor, way: str) -> None:
    job_id = submit(service, steps=STEPS)
    worker = at_step(service, job_id)
    seen = service.status(job_id).step
    if way == "pause":
        assert service.pause(job_id)
    else:
        service.lend_card(True)
    wait_until(lambda: service.status(job_id).state == "paused")
    wait_until(lambda: gone(worker))
    laid = [event for _, event in service.events(job_id) if isinstance(event, Paused)]
    assert len(laid) == 1
    assert seen <= laid[0].step < STEPS
    if way == "pause":
        assert service.resume(job_id)
    else:
        service.lend_card(False)
    found = follow(service, job_id)
    assert states(found) == ["queued", "running", "paused", "queued", "running", "decoding", "done"]
    assert [event.step for event in found if isinstance(event, Resumed)] == [laid[0].step]
    assert steps(found) == list(range(1, STEPS + 1))
    assert torch.equal(latents(service.status(job_id).folder), whole)


@pytest.mark.parametrize("restarted", [False, True], ids=["the app goes on", "the app is started again"])
def test_the_card_is_lent_to_a_program_that_needs_it(
    tmp_path: Path, whole: torch.Tensor, monkeypatch: pytest.MonkeyPatch, restarted: bool
) -> None:
    """Laid down by itself, no other job started meanwhile, and on by itself when the program has gone."""
    monkeypatch.setattr("i2v.jobs.lane.lane.TICK_SECONDS", 0.1)
    settings, probe = settings_in(tmp_path, lend_card=True)
    machine = Shared(probe)
    monkeypatch.setattr(
        "i2v.jobs.intake.build_plan", lambda resolved, _probe, **more: build_plan(resolved, probe.read(), **more)
    )
    service = JobService(settings, machine, start=shared().start)
    try:
        job_id, next_one = submit(service, steps=STEPS), submit(service, steps=1)
        worker = at_step(service, job_id)
        machine.others_bytes = 8 * GIB
        wait_until(lambda: service.status(job_id).state == "paused")
        wait_until(lambda: gone(worker))
        laid = next(event for _, event in service.events(job_id) if isinstance(event, Paused))
        assert laid.message is not None
        assert (laid.message.id, laid.message.params["program"]) == (waits.LENT, "blender")
        if restarted:
            service.close()
            service = JobService(settings, machine, start=shared().start)
        with pytest.raises(AssertionError):  # half a second is five looks
            wait_until(lambda: service.status(next_one).state != "queued", 0.5)
        assert service.status(job_id).state == "paused"
        machine.others_bytes = 0
        found = follow(service, job_id)
        assert states(found)[-1] == states(follow(service, next_one))[-1] == "done"
        assert steps(found) == list(range(1, STEPS + 1))
        assert torch.equal(latents(service.status(job_id).folder), whole)
    finally:
        service.close()


def test_turns_are_fair_and_a_line_has_an_end(service: JobService) -> None:
    """Whoever comes with one job does not wait for all of somebody else's, and nobody takes all places."""
    service.pause_queue()
    first = [submit(service, "ann", steps=1) for _ in range(2)]
    with pytest.raises(UserError) as caught:
        submit(service, "ann", steps=1)
    assert caught.value.message.id == "jobs.owner_full"
    second = submit(service, "ben", steps=1)
    service.pause_queue(False)
    for job_id in (*first, second):
        assert states(follow(service, job_id))[-1] == "done"
    started = sorted((*first, second), key=lambda job_id: service.status(job_id).started)
    assert started == [first[0], second, first[1]]


def test_a_job_again(service: JobService, whole: torch.Tensor) -> None:
    """Tried again it goes on from what was kept; decoded again, the network is not called."""
    plant(service.faults, phase="denoise", step=0)
    job_id = submit(service, steps=STEPS)
    at_step(service, job_id, 3)
    assert service.pause(job_id)
    wait_until(lambda: service.status(job_id).state == "paused")
    assert service.cancel(job_id)
    made = next(event.step for _, event in service.events(job_id) if isinstance(event, Paused))
    again = service.retry(job_id)
    found = follow(service, again)
    assert states(found)[-1] == "done"
    assert steps(found) == list(range(made + 1, STEPS + 1))
    assert torch.equal(latents(service.status(again).folder), whole)

    decoded = service.redecode(again, {"fps": 6})
    found = follow(service, decoded)
    assert states(found) == ["queued", "running", "decoding", "done"]
    assert steps(found) == []
    assert unet_rows(service.status(decoded).folder) == 0
    assert (service.status(decoded).request.fps, service.status(decoded).parent) == (6, again)
    assert service.result(decoded).is_file()


def test_a_job_that_fails_stops_no_other(service: JobService, whole: torch.Tensor) -> None:
    harmed = submit(service, steps=STEPS)
    at_step(service, harmed)
    bad = submit(service, steps=2)
    (service.status(bad).folder / "input.png").write_bytes(b"no picture")
    good = service.submit(nano(steps=STEPS), photograph(), "another")
    service.cancel(harmed)
    assert states(follow(service, bad))[-1] == "failed"
    assert not [event for event in follow(service, bad) if isinstance(event, StepFinished)]
    assert states(follow(service, good))[-1] == "done"
    assert torch.equal(latents(service.status(good).folder), whole)
