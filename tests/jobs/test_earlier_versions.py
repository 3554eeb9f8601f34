"""What versions before there were placements have left: a list of jobs, their folders, a video, a ledger.

`tests/data/before_streaming` was written by the version that plans had one `offload` in: a job that is done, one that
was laid down after two steps, and the latents of that one's twin which ran to its end. Their model was in a folder that
is not here: the app has been moved since."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from i2v.engine.checkpoint import LATENTS, load_latents
from i2v.jobs.asked.plans import Plans
from i2v.jobs.service import JobService
from i2v.plan import Plan
from i2v.planning.ledger import Ledger, Setup
from i2v.ui.create.restore import restored_from
from i2v.video.metadata import probe_video, read_metadata
from tests.jobs_support import settings_in
from tests.warm_support import shared

DATA = Path(__file__).parents[1] / "data" / "before_streaming"
DONE, LAID_DOWN = "20261126-165604-3115ad", "20261126-165626-907fa4"

pytestmark = pytest.mark.drives


@pytest.fixture
def service(tmp_path: Path) -> Iterator[JobService]:
    outputs = tmp_path / "outputs"
    (outputs / ".i2v").mkdir(parents=True)
    shutil.copytree(DATA / "2026-11-26", outputs / "2026-11-26")
    shutil.copy(DATA / "jobs.sqlite", outputs / ".i2v")
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
