"""The worker, and the whole app with it, are killed at random moments: no job is lost or done twice, each goes on from
what was written, and the latents are those of an uninterrupted run, bit for bit. More of the same: bench/faults.py."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from i2v.jobs.service import JobService
from i2v.messages import UserError
from tests.faults.kills import kill_app, kill_worker
from tests.faults.support import latents, run
from tests.jobs_support import settings_in

CHECKPOINT_SECONDS = 0  # after every step
WORKER_KILLS, APP_KILLS, JOBS = 5, 3, 3
STEPS = 8


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobService]:
    settings, probe = settings_in(tmp_path_factory.mktemp("kills"), checkpoint_seconds=CHECKPOINT_SECONDS)
    with JobService(settings, probe) as service:
        yield service


@pytest.fixture(scope="module")
def wholes(service: JobService) -> list[torch.Tensor]:
    """Latents of uninterrupted runs, one for each seed."""
    return [latents(run(service, steps=STEPS, seed=seed)[0]) for seed in range(2)]


@pytest.mark.parametrize("number", range(WORKER_KILLS))
def test_the_worker_is_killed(service: JobService, wholes: list[torch.Tensor], number: int) -> None:
    # The first kill comes when there is something to lose, the others at any moment.
    after_seconds, after_steps = (0.0, STEPS - 2) if number == 0 else (random.Random(number).uniform(0.0, 2.5), 0)
    kill = kill_worker(service, after_seconds, wholes[0], after_steps, steps=STEPS, seed=0)
    assert (kill.state, kill.dones, kill.same) == ("done", 1, True)
    assert kill.reached - kill.kept <= 1  # the step that was just being written down


def test_the_app_is_killed(tmp_path: Path, wholes: list[torch.Tensor]) -> None:
    chance = random.Random(0)
    found = kill_app(tmp_path, [chance.uniform(0.0, 1.0) for _ in range(APP_KILLS)], JOBS, wholes, STEPS)
    assert (found.jobs, found.kills) == (JOBS, APP_KILLS)
    assert (found.lost, found.doubled, found.different) == (0, 0, 0)


def test_two_apps_never_share_a_folder(tmp_path: Path) -> None:
    """Two would run every job twice."""
    with JobService(*settings_in(tmp_path)), pytest.raises(UserError) as caught:
        JobService(*settings_in(tmp_path))
    assert caught.value.message.id == "jobs.outputs_taken"
    JobService(*settings_in(tmp_path)).close()
