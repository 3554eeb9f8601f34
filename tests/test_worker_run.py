"""One job inside the worker, without the process around it: getting the model, and ending before the engine runs."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from i2v.events import Cancelled, Done, Event, Failed, Paused, PhaseFinished, PhaseStarted, Resumed
from i2v.families.i2vgen_xl.spec import SPEC
from i2v.job_progress import JobProgress
from i2v.jobs.asked.prepare import build_plan, resolve
from i2v.models.catalogue import find_model
from i2v.models.entry import ASSETS
from i2v.wire.worker import Run
from i2v.worker.problems import explain
from i2v.worker.run import Runner
from tests.hub_server import Hub, serve_hub
from tests.jobs_support import settings_in, small_picture, values
from tests.model_folders import make_checkpoint


class Engine:
    """Says that it is done, and remembers the folder of the model it was given, and that of all models."""

    folder: Path | None = None
    models_dir: Path | None = None
    released = 0

    def run(self, request, plan, *, entry, job_folder, emit, cancelled, orders=None):
        type(self).folder, type(self).models_dir = entry.folder, orders.models_dir
        emit(Done("video.mp4", 1.0, request.num_frames))
        return job_folder / "video.mp4"

    def release(self) -> None:
        type(self).released += 1


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """A hub with a whole repository, large enough for progress to be told."""
    folder = make_checkpoint(tmp_path / "hub" / "i2vgen-xl", SPEC)
    weights = {"weight": np.ones(2_000_000, dtype=np.float16)}
    save_file(weights, folder / "unet" / "diffusion_pytorch_model.safetensors")
    assert SPEC.hub_id is not None
    with serve_hub({SPEC.hub_id: folder}) as hub:
        yield hub


def run(tmp_path: Path, hub: Hub, *, cancelled: bool = False, offline: bool = False) -> list[Event]:
    """Run one job with the family's own model, which is not on this machine; the events."""
    settings, probe = settings_in(tmp_path, hf_endpoint=hub.url, offline=offline)
    resolved = resolve(values(model="i2vgen-xl", image=small_picture(tmp_path)), settings)
    (plan, _), request = build_plan(resolved, probe.read()), resolved.request
    command = Run(
        job_id="id",
        folder=str(tmp_path),
        request=request.to_json(),
        plan=plan.to_json(),
        entry=find_model("i2vgen-xl", settings).to_json(),
        models_dir=str(settings.models_dir),
        log="worker.log",
        endpoint=settings.hf_endpoint,
        offline=settings.offline,
    )
    found: list[Event] = []
    Runner(Engine).run(command, lambda reported: found.append(reported.event), lambda: cancelled)
    return found


def test_a_model_that_is_not_there_is_fetched_first(tmp_path: Path, hub: Hub) -> None:
    found = run(tmp_path, hub)
    parts = [(type(event), event.detail) for event in found if isinstance(event, PhaseStarted | PhaseFinished)]
    assert parts == [(cls, part) for part in ("download", "engine") for cls in (PhaseStarted, PhaseFinished)]
    assert isinstance(found[-1], Done)
    assert Engine.folder == tmp_path / "models" / "i2vgen-xl"
    assert Engine.models_dir == tmp_path / "models"  # in which LoRAs lie
    assert (Engine.folder / "model_index.json").is_file()
    hub.fetched.clear()
    assert [type(event) for event in run(tmp_path, hub)] == [PhaseStarted, PhaseFinished, Done]
    assert hub.fetched == []


def test_a_download_is_cancelled_and_goes_on_another_time(tmp_path: Path, hub: Hub) -> None:
    found = run(tmp_path, hub, cancelled=True)
    assert found == [PhaseStarted("load", "download"), Cancelled(0)]
    assert isinstance(run(tmp_path, hub)[-1], Done)


def test_offline_is_said_and_no_engine_is_made_for_it(tmp_path: Path, hub: Hub) -> None:
    found = run(tmp_path, hub, offline=True)
    assert found[0] == PhaseStarted("load", "download")
    assert isinstance(found[1], Failed)
    assert found[1].message.id == "models.offline"
    assert hub.fetched == []


def test_a_job_cancelled_while_the_engine_was_made_does_not_run(tmp_path: Path, hub: Hub) -> None:
    run(tmp_path, hub)
    Engine.folder, Engine.released = None, 0
    assert run(tmp_path, hub, cancelled=True)[-1] == Cancelled(0)
    assert Engine.folder is None
    assert Engine.released == 1


def test_a_run_that_goes_on_and_finds_the_disk_full_is_laid_down_where_it_goes_on(tmp_path: Path) -> None:
    class Full(Engine):
        def run(self, request, plan, *, emit, **_):
            emit(Resumed(3))
            raise OSError(errno.ENOSPC, "No space left on device")

    settings, probe = settings_in(tmp_path)
    resolved = resolve(values(model="nano", image=small_picture(tmp_path)), settings)
    (plan, _), entry = build_plan(resolved, probe.read()), find_model("nano", settings)
    told = {"request": resolved.request.to_json(), "plan": plan.to_json(), "entry": entry.to_json()}
    command = Run(job_id="id", folder=str(tmp_path), models_dir="m", log="l", **told)
    found: list[Event] = []
    Runner(Full).run(command, lambda reported: found.append(reported.event), lambda: False)
    assert isinstance(found[-1], Paused)
    assert (found[-1].step, found[-1].message.id) == (3, "worker.disk_full")


def test_a_model_that_the_user_brought_is_named_where_a_job_fails_unexpectedly(tmp_path: Path) -> None:
    """It is no fault in the app then, as far as anybody knows; and of the error only what happened is told."""
    command = Run(
        job_id="id", folder="f", request={}, plan={}, entry={"folder": str(tmp_path)}, models_dir="m", log="l"
    )
    error = IndexError("index out of range in self\n\nYou may consider another argument.")
    said = explain(error, command, JobProgress(phase="encode"))
    assert (said.id, said.params["folder"]) == ("worker.unexpected_model", str(tmp_path))
    assert said.params["error"] == "IndexError: index out of range in self"
    assert "fault in the app" not in said.render()
    bundled = replace(command, entry={"folder": str(ASSETS / "nano")})
    assert explain(ValueError(), bundled, JobProgress()).id == "worker.unexpected"
