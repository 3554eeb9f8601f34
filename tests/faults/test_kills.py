"""A run that dies at each step in turn goes on from what was written to the latents of an uninterrupted run, bit for
bit. The worker, for each kind of task, and the whole app with it are killed once each: no job is lost or done twice.
Killed many times, at random moments, they are by `python -m bench.faults`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from i2v.engine.engine import Engine
from i2v.engine.orders import Orders, never
from i2v.events import Event, StateChanged, StepFinished
from i2v.jobs.job.folder import PICTURE, VIDEO
from i2v.jobs.job.stored import StoredJob
from i2v.jobs.service import JobService
from i2v.messages import UserError
from tests.faults.kills import kill_app, kill_worker
from tests.faults.small import submit
from tests.faults.support import latents, run
from tests.faulty_cards import steps
from tests.hunyuan_checkpoints import build_hunyuan
from tests.jobs_support import settings_in
from tests.video_support import film
from tests.warm_support import shared

pytestmark = pytest.mark.drives

CHECKPOINT_SECONDS = 0  # after every step
APP_KILLS, JOBS = 1, 2
STEPS = 4


MANY_STEPS = 80  # of hundredths of a second each, so that the kill comes between two


class Death(BaseException):
    """The process ends here: nothing catches it."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobService]:
    settings, probe = settings_in(tmp_path_factory.mktemp("kills"), checkpoint_seconds=CHECKPOINT_SECONDS)
    with JobService(settings, probe, start=shared().start) as service:
        yield service


@pytest.fixture(scope="module")
def wholes(service: JobService) -> list[torch.Tensor]:
    """Latents of uninterrupted runs, one for each seed."""
    return [latents(run(service, steps=STEPS, seed=seed)[0]) for seed in range(2)]


@pytest.fixture(scope="module")
def hunyuan(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a small HunyuanVideo, as a request names it."""
    return str(build_hunyuan(tmp_path_factory.mktemp("models") / "hunyuan"))


@pytest.fixture(scope="module")
def example(service: JobService, wholes: list[torch.Tensor]) -> StoredJob:
    """A job whose uninterrupted run came to the first of `wholes`."""
    job_id = submit(service, steps=STEPS, seed=0)
    service.cancel(job_id)
    return service._board.known(job_id)


@pytest.mark.parametrize("step", [*range(1, STEPS + 1), "decoding"])
def test_a_run_that_dies_goes_on_to_the_same_latents(
    service: JobService, wholes: list[torch.Tensor], example: StoredJob, tmp_path: Path, step: int | str
) -> None:
    shutil.copy(service._board.folder(example) / PICTURE, tmp_path / PICTURE)
    told: list[Event] = []

    def tell(event: Event) -> None:
        told.append(event)
        denoised = isinstance(event, StepFinished) and event.phase == "denoise" and event.index == step
        if len(deaths) == 0 and (denoised or (step == "decoding" and isinstance(event, StateChanged))):
            deaths.append(event)
            raise Death

    deaths: list[Event] = []
    arguments = {
        "entry": example.entry,
        "job_folder": tmp_path,
        "emit": tell,
        "cancelled": never,
        "orders": Orders(checkpoint_seconds=CHECKPOINT_SECONDS),
    }
    with pytest.raises(Death):
        Engine().run(example.request, example.plan, **arguments)
    made, told[:] = steps(told), []
    Engine().run(example.request, example.plan, **arguments)
    assert made == list(range(1, STEPS + 1 if step == "decoding" else step + 1))
    # At most the step that was just being written down is made again.
    assert steps(told) in (list(range(made[-1] + 1, STEPS + 1)), list(range(made[-1], STEPS + 1)))
    assert torch.equal(latents(tmp_path), wholes[0])
    assert (tmp_path / VIDEO).is_file()


def test_the_worker_is_killed(service: JobService, wholes: list[torch.Tensor]) -> None:
    kill = kill_worker(service, 0.0, wholes[0], STEPS - 2, steps=STEPS, seed=0)  # with something to lose
    assert (kill.state, kill.dones, kill.same) == ("done", 1, True)
    assert kill.reached - kill.kept <= 1  # the step that was just being written down


@pytest.mark.parametrize("task", ["t2v", "v2v"])
def test_the_worker_is_killed_while_it_makes_a_video_of_a_sentence_or_a_video(
    service: JobService, hunyuan: str, tmp_path: Path, task: str
) -> None:
    asked = {"model": hunyuan, "task": task, "width": 128, "height": 128, "frames": 9, "steps": MANY_STEPS}
    if task == "v2v":
        asked |= {"clip": film(tmp_path / "clip.mp4", rate="24", seconds=1), "strength": 0.6}
    whole = latents(run(service, **asked)[0])
    kill = kill_worker(service, 0.0, whole, MANY_STEPS // 4, **asked)
    assert (kill.state, kill.dones, kill.same) == ("done", 1, True)
    assert MANY_STEPS // 4 - 1 <= kill.kept < MANY_STEPS
    assert kill.reached - kill.kept <= 1  # the step that was just being written down


def test_the_app_is_killed(tmp_path: Path, wholes: list[torch.Tensor]) -> None:
    found = kill_app(tmp_path, [0.5] * APP_KILLS, JOBS, wholes, STEPS)
    assert (found.jobs, found.kills) == (JOBS, APP_KILLS)
    assert (found.lost, found.doubled, found.different) == (0, 0, 0)


def test_two_apps_never_share_a_folder(tmp_path: Path) -> None:
    """Two would run every job twice."""
    with JobService(*settings_in(tmp_path)), pytest.raises(UserError) as caught:
        JobService(*settings_in(tmp_path))
    assert caught.value.message.id == "jobs.outputs_taken"
    JobService(*settings_in(tmp_path)).close()
