"""What earlier versions have left: a list of jobs, their folders, a video, a ledger.

`tests/data/before_streaming` was written by the version that plans had one `offload` in: a job that is done, one that
was laid down after two steps, and the latents of that one's twin which ran to its end. Their model was in a folder that
is not here: the app has been moved since."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch

from i2v.engine.checkpoint import LATENTS
from i2v.jobs.asked.plans import Plans
from i2v.jobs.service import JobService
from i2v.messages import UserError
from i2v.plan import Plan
from i2v.planning.ledger import Ledger, Setup
from i2v.ui.create.restore import restored_from
from i2v.ui.gallery.cards import grid
from i2v.video.metadata import probe_video, read_metadata
from tests.jobs_support import settings_in
from tests.latents import load_latents
from tests.warm_support import shared

DATA = Path(__file__).parents[1] / "data" / "before_streaming"
DONE, LAID_DOWN = "20261126-165604-3115ad", "20261126-165626-907fa4"

pytestmark = pytest.mark.drives


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """An outputs folder as that version left it."""
    outputs = tmp_path / "outputs"
    (outputs / ".i2v").mkdir(parents=True)
    shutil.copytree(DATA / "2026-11-26", outputs / "2026-11-26")
    shutil.copy(DATA / "jobs.sqlite", outputs / ".i2v")
    return outputs


@pytest.fixture
def service(tmp_path: Path, left: Path) -> Iterator[JobService]:
    settings, probe = settings_in(tmp_path, cpu=None, simulate_gib=0.25)
    with JobService(settings, probe, plans=Plans.of(settings), start=shared().start) as running:
        yield running


def test_a_list_and_its_folders_open(service: JobService):
    done, laid_down = service.status(DONE), service.status(LAID_DOWN)
    assert (done.state, laid_down.state) == ("done", "paused")
    assert done.plan.place("unet").residency == done.plan.offload == "staged"
    assert probe_video(service.result(DONE)).frames == 4


def test_a_video_gives_its_settings_back(service: JobService, tmp_path: Path):
    video = service.result(DONE)
    request = restored_from(video, settings_in(tmp_path)[0]).request
    assert (request.prompt, request.num_frames, request.seed) == ("the camera pans right", 4, 7)
    assert Plan.from_json(read_metadata(video)["plan"]).offload == "staged"


def test_latents_are_decoded_again(service: JobService):
    again = service.redecode(DONE, {"fps": 12})
    list(service.attach(again))
    assert service.status(again).state == "done"
    assert probe_video(service.result(again)).fps == 12


def test_a_job_that_was_laid_down_goes_on_to_the_same_latents(service: JobService):
    assert service.resume(LAID_DOWN)
    list(service.attach(LAID_DOWN))
    status = service.status(LAID_DOWN)
    assert status.state == "done"
    made, wanted = load_latents(status.folder / LATENTS), load_latents(DATA / "whole.safetensors")
    torch.testing.assert_close(made, wanted, rtol=1e-4, atol=1e-4)  # another processor adds in another order


def test_a_ledger_is_read():
    ledger = Ledger(DATA / "ledger.jsonl")
    correction = ledger.correction(Setup("nano", "float32", "cpu", "2.13.0"))
    assert correction.time_factor("denoise") == 2.0
    assert correction.extra_bytes("denoise") == 20 * 2**20
    assert Plan.from_json(ledger.entries()[0].plan).offload == "staged"


GONE = {
    "name": "standin", "family": "i2vgen_xl", "title": "I2VGen-XL stand-in", "folder": "/elsewhere/models/standin",
    "hub_id": None, "present": True, "standin": True, "size_bytes": 17156266, "problem": None,
}  # fmt: skip


@pytest.fixture
def _of_a_model_that_went(left: Path) -> None:
    """Both jobs as versions had them that offered an untrained model of this name."""
    with closing(sqlite3.connect(left / ".i2v" / "jobs.sqlite")) as db, db:
        db.execute("UPDATE jobs SET entry = ?, request = json_set(request, '$.model', 'standin')", [json.dumps(GONE)])


@pytest.mark.usefixtures("_of_a_model_that_went")
def test_a_job_of_a_model_that_went_can_still_be_seen(service: JobService):
    done = service.status(DONE)
    assert (done.state, done.request.model) == ("done", "standin")
    assert probe_video(service.result(DONE)).frames == 4
    assert DONE in grid([done], 1, {}, "en")


@pytest.mark.usefixtures("_of_a_model_that_went")
def test_a_job_of_a_model_that_went_says_so_when_it_is_to_run(service: JobService):
    for again in (service.retry, service.redecode):
        with pytest.raises(UserError, match="no model called standin"):
            again(DONE)
    assert service.resume(LAID_DOWN)
    list(service.attach(LAID_DOWN))
    status = service.status(LAID_DOWN)
    assert status.state == "failed"
    assert "standin" in status.error.render()
