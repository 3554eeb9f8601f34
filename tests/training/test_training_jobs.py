"""Training as a job: in line with the others, laid down and taken up, and safe from whatever ends its process."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from i2v.cli.program import main
from i2v.events import Done, Noted, Resumed, StepFinished
from i2v.jobs.list.rebuild import job_from_folder
from i2v.jobs.service import JobService
from i2v.messages import UserError
from i2v.models.entry import ModelEntry
from i2v.plan import Plan
from i2v.request import GenerationRequest
from i2v.wire.worker import Run
from i2v.worker.run import Runner
from tests.jobs_support import settings_in, small_picture, wait_until
from tests.training.small_trainings import FPS, FRAMES, SIDE
from tests.warm_support import shared

pytestmark = pytest.mark.drives
STEPS = 8


@pytest.fixture
def service(tmp_path: Path) -> Iterator[JobService]:
    with JobService(*settings_in(tmp_path), start=shared().start) as service:
        yield service


@pytest.fixture
def asked(model_of: Callable[[str], Path], clips: Path) -> dict[str, Any]:
    return {
        "model": str(model_of("nano")), "clips": str(clips), "width": SIDE, "height": SIDE, "frames": FRAMES,
        "fps": FPS, "rank": 2, "steps": STEPS, "batch": 2, "rate": 1e-2, "save_seconds": 0,
    }  # fmt: skip


def ended(service: JobService, job_id: str) -> str:
    for _ in service.attach(job_id):
        pass
    return service.status(job_id).state


def after_step(service: JobService, job_id: str, step: int) -> None:
    """Return once `step` is told of."""
    wait_until(lambda: service.status(job_id).step >= step or service.status(job_id).state == "done")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, model_of, clips) -> tuple[tuple[int, float], ...]:
    """The losses of a training that nothing disturbs."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with JobService(*settings_in(folder), start=shared().start) as service:
        values = {
            "model": str(model_of("nano")), "clips": str(clips), "width": SIDE, "height": SIDE, "frames": FRAMES,
            "fps": FPS, "rank": 2, "steps": STEPS, "batch": 2, "rate": 1e-2,
        }  # fmt: skip
        job_id = service.train({**values, "name": "whole"})
        assert ended(service, job_id) == "done"
        return service.training(job_id).losses


def test_a_training_runs_in_line_and_leaves_its_lora(service: JobService, asked: dict[str, Any], tmp_path: Path):
    job_id = service.train({**asked, "name": "squares", "trigger": "sqr"}, owner="ada")
    with pytest.raises(UserError) as refused:
        service.train({**asked, "name": "squares"})
    assert refused.value.message.id == "jobs.training_under_way"
    assert ended(service, job_id) == "done"
    status, seen = service.status(job_id), service.training(job_id)
    assert (status.task, status.owner, status.request.prompt, status.steps) == ("train", "ada", "squares", STEPS)
    assert seen.file == tmp_path / "models/loras/squares.safetensors"
    assert [step for step, _ in seen.losses] == list(range(1, STEPS + 1))
    assert seen.foretold_peak_bytes is not None
    assert seen.seconds_left == 0
    told = [event for _, event in service.events(job_id)]
    assert [event.path for event in told if isinstance(event, Done)] == ["squares.safetensors"]
    assert [event.index for event in told if isinstance(event, StepFinished)][-1] == STEPS
    assert {"training.foretold", "training.begun"} <= {e.message.id for e in told if isinstance(e, Noted)}
    for refused_call in (service.result, service.last_frame, service.export, service.extend, service.redecode):
        with pytest.raises(UserError) as refused:
            refused_call(job_id)
        assert refused.value.message.id == "jobs.trains"
    assert job_from_folder(status.folder).task == "train"  # the folder alone tells it
    with pytest.raises(UserError) as refused:
        service.retry(job_id, {"steps": 4})
    assert refused.value.message.id == "jobs.training_as_it_was"
    # Again: from what the work folder holds, so that no step is made twice.
    again = service.retry(job_id)
    assert ended(service, again) == "done"
    assert [event.step for _, event in service.events(again) if isinstance(event, Resumed)] == [STEPS]
    assert service.training(again).losses == seen.losses


def test_paused_and_resumed_it_learns_the_same(service: JobService, asked: dict[str, Any], undisturbed):
    job_id = service.train({**asked, "name": "paused"})
    after_step(service, job_id, 2)
    assert service.pause(job_id)
    wait_until(lambda: service.status(job_id).state == "paused")
    reached = service.status(job_id).step
    assert 2 <= reached < STEPS
    assert service.resume(job_id)
    assert ended(service, job_id) == "done"
    assert service.status(job_id).resumed_from_step == reached
    assert service.training(job_id).losses == undisturbed


def test_a_worker_that_is_killed_costs_no_training(service: JobService, asked: dict[str, Any], undisturbed):
    job_id = service.train({**asked, "name": "killed"})
    after_step(service, job_id, 2)
    os.kill(service.status(job_id).worker_pid, signal.SIGKILL)
    assert ended(service, job_id) == "done"
    assert any(isinstance(event, Resumed) for _, event in service.events(job_id))
    assert service.training(job_id).losses == undisturbed


def test_it_is_cancelled_within_a_step_and_the_next_job_runs(
    service: JobService, asked: dict[str, Any], tmp_path: Path
):
    job_id = service.train({**asked, "name": "cancelled", "steps": 500})
    picture = small_picture(tmp_path)
    wanted = {"model": asked["model"], "prompt": "water", "width": SIDE, "height": SIDE, "frames": 16, "steps": 1}
    video = service.submit(wanted, picture)
    after_step(service, job_id, 1)
    assert service.cancel(job_id)
    assert ended(service, job_id) == "cancelled"
    assert not (tmp_path / "models/loras/cancelled.safetensors").exists()
    assert ended(service, video) == "done", [event for _, event in service.events(video)]


def test_it_goes_on_when_the_app_is_started_again(asked: dict[str, Any], tmp_path: Path, undisturbed):
    with JobService(*settings_in(tmp_path), start=shared().start) as first:
        job_id = first.train({**asked, "name": "restarted"})
        after_step(first, job_id, 2)
    with JobService(*settings_in(tmp_path), start=shared().start) as second:
        assert ended(second, job_id) == "done"
        assert second.training(job_id).losses == undisturbed


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"clips": None}, "training.clips_needed"),
        ({"name": "../out"}, "training.bad_name"),
        ({"model": "no such model"}, None),
        ({"precision": "int3"}, "training.precision"),
    ],
)
def test_what_cannot_be_trained_is_refused_and_leaves_nothing(
    service: JobService, asked: dict[str, Any], tmp_path: Path, changes: dict[str, Any], said: str | None
):
    with pytest.raises(UserError) as refused:
        service.train({**asked, **changes})
    assert said in (None, refused.value.message.id)
    assert service.jobs() == []
    assert not list((tmp_path / "outputs").glob("20*/*"))


def test_clips_that_are_gone_fail_the_job_with_the_reason(service: JobService, asked: dict[str, Any], tmp_path: Path):
    empty = tmp_path / "nothing"
    empty.mkdir()
    job_id = service.train({**asked, "clips": str(empty), "name": "empty"})
    assert ended(service, job_id) == "failed"
    assert service.status(job_id).error.id == "training.no_clips"
    assert json.loads((service.status(job_id).folder / "training.json").read_text())["request"]["clips"] == str(empty)


def test_the_model_of_the_job_before_leaves_before_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    happened: list[str] = []

    class Engine:
        def release(self) -> None:
            happened.append("released")

        def run(self, *_: Any, **__: Any) -> None:
            happened.append("ran")

    monkeypatch.setattr("i2v.worker.train_job.train_job", lambda *_: happened.append("trained"))
    runner = Runner(Engine)
    entry = ModelEntry("nano", "nano", "Nano", tmp_path, None, True, 0, None).to_json()
    request = GenerationRequest("nano", "p", 64, 64, 5, 8, 2, 1.0, 0).to_json()
    rest = {"request": request, "plan": Plan().to_json(), "entry": entry, "models_dir": "m", "log": "l"}
    for work in ("generate", "train"):
        run = Run(job_id=work, folder=str(tmp_path), work=work, training={}, **rest)
        assert runner.run(run, lambda report: None, lambda: False)
    assert happened == ["ran", "released", "trained"]


def test_the_command_line_does_a_training_again(
    service: JobService, asked: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    job_id = service.train({**asked, "name": "again"})
    assert ended(service, job_id) == "done"
    service.close()
    places = ("--out", f"{tmp_path / 'outputs'}", "--models", f"{tmp_path / 'models'}")
    assert main(["retry", job_id, "--cpu", "--lang", "en", *places]) == 0
    assert capfd.readouterr().out.strip() == str(tmp_path / "models/loras/again.safetensors")
