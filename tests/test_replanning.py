"""A job is planned again when its turn comes, and tells what it did: rungs in the ledger, other formats from frames."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from jobs_support import settings_in, small_picture, wait_until
from machines import card

from i2v.engine.checkpoint import LATENTS
from i2v.events import Done, Healed, PreviewReady, StepFinished
from i2v.jobs.asked.plans import Plans
from i2v.jobs.asked.prepare import build_request
from i2v.jobs.job.predicted import kept_prediction
from i2v.jobs.job.record import JobRecord
from i2v.jobs.job.stored import StoredJob
from i2v.jobs.lane.prepared import Prepared, prepare
from i2v.jobs.service import JobService
from i2v.messages import UserError, message
from i2v.models.catalogue import find_model
from i2v.plan import Plan
from i2v.video.metadata import probe_video, read_metadata
from tests.latents import load_latents
from tests.warm_support import shared

NANO = {"model": "nano", "prompt": "zoom in", "width": 96, "height": 64, "frames": 5, "steps": 2, "seed": 1}
XL = {"model": "i2vgen-xl", "width": 512, "height": 512, "frames": 16, "steps": 50}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobService]:
    """One with a worker that has the model once it was asked for it."""
    with JobService(*settings_in(tmp_path_factory.mktemp("shared")), start=shared().start) as service:
        yield service


@pytest.fixture
def plans(tmp_path: Path):
    made = Plans(tmp_path / "planner", shared().start)
    yield made
    made.close()


def test_a_job_is_planned_for_what_is_free_when_its_turn_comes(tmp_path, plans):
    settings, _ = settings_in(tmp_path, cpu=False, preset="12gb")
    request = build_request({**XL, "prompt": "go", "image": str(small_picture(tmp_path))}, settings)
    entry = find_model(request.model, settings)
    job = StoredJob("id", "2026-11-20/id", request, Plan(device="cuda", precision="float16"), entry, 0.0)

    def plan(free_gib: float, **happened: object) -> Prepared:
        record = JobRecord(job.id, tmp_path, request, job.plan, entry, "local")
        for event in happened.values():
            record.append(event)
        return prepare(job, record, plans, settings, card(free_gib, 12))

    roomy, short = plan(11), plan(4.4)
    assert roomy.plan != short.plan
    assert roomy.seconds < short.seconds
    peaks = [rung.peaks_bytes["denoise"] for rung in roomy.ladder]
    assert roomy.ladder[0].plan == roomy.plan
    assert peaks == sorted(peaks, reverse=True)
    assert {"encode", "denoise", "decode"} == set(roomy.ladder[0].peaks_bytes)
    # What a run has stepped down to, it does not climb up from; and nothing that its progress depends on changes.
    down = replace(short.plan, chunk_pixels=512)
    healed = Healed("denoise", 3, {}, down.to_json(), message("jobs.closed"))
    assert plan(11, healed=healed).plan == down
    job = replace(job, plan=replace(job.plan, precision="bfloat16"))
    assert plan(11).plan.precision == "bfloat16"
    job = replace(job, plan=replace(job.plan, vae_window="5x16x16", lossless=False))
    anew = plan(11)
    assert (anew.plan.vae_window, anew.plan.lossless) == ("5x16x16", False)
    assert {rung.plan.vae_window for rung in anew.ladder} == {"5x16x16"}


def test_a_job_that_had_to_heal_says_so_everywhere(tmp_path, plans):
    """A card smaller than what was planned for: on the page, in the video, in the ledger."""
    settings, probe = settings_in(tmp_path, cpu=None, simulate_gib=0.25)
    job = {**NANO, "width": 512, "height": 512, "frames": 16, "chunk_frames": 0, "chunk_pixels": 0, "cfg": "batch"}
    with JobService(settings, probe, plans=plans, start=shared().start) as service:
        service._settings = replace(settings, simulate_gib=0.045)  # so much less than the probe says is there
        service._lane._settings = service._settings
        job_id = service.submit(job, small_picture(tmp_path))
        found = [event for _, event in service.attach(job_id)]
        status, video = service.status(job_id), service.result(job_id)
    assert any(isinstance(event, Done) for event in found)
    healed = [event for event in found if isinstance(event, Healed)]
    assert healed
    assert list(status.healed) == [event.rung for event in healed] == read_metadata(video)["healed"]
    assert status.plan.to_json() == healed[-1].plan
    predicted = kept_prediction(status.folder)
    assert predicted is not None
    assert predicted.seconds == pytest.approx(status.seconds_predicted)
    assert {"denoise", "decode"} < {phase.name for phase in predicted.phases}
    ledger = tmp_path / "planner" / "ledger.jsonl"
    wait_until(ledger.is_file)
    entry = json.loads(ledger.read_text().splitlines()[-1])
    assert entry["healed"] == list(status.healed)
    assert entry["phases"] == []


def test_another_format_comes_from_the_frames(service, tmp_path):
    job_id = service.submit(NANO, small_picture(tmp_path))
    list(service.attach(job_id))
    faster = service.export(job_id, {"fps": 24})
    moving = service.export(job_id, {"format": "gif"})
    with pytest.raises(UserError) as refused:
        service.export(job_id, {"format": "gif", "fps": 100})
    assert refused.value.message.id == "video.gif_too_fast"
    assert (probe_video(faster).frames, probe_video(faster).fps) == (5, 24)
    assert moving.read_bytes().startswith(b"GIF89a")


def test_a_job_that_was_stopped_to_be_looked_at_goes_on_to_the_same_bytes(service, tmp_path):
    """Scouting: a few seeds for their first steps, and one of them to its end as if it had never been stopped."""
    job = {**NANO, "steps": 6}
    whole = service.submit(job, small_picture(tmp_path))
    scouts = [service.submit({**job, "seed": seed}, small_picture(tmp_path), stop_at=2) for seed in (1, 2)]
    list(service.attach(whole))
    wait_until(lambda: all(service.status(scout).state == "paused" for scout in scouts))
    for scout in scouts:
        told = [event for _, event in service.events(scout)]
        assert [e.index for e in told if isinstance(e, StepFinished)] == [1, 2]
        assert any(isinstance(e, PreviewReady) and e.step == 2 for e in told)
    pids = {service.status(job_id).worker_pid for job_id in (whole, *scouts)}
    assert len(pids) == 1  # the model is loaded once
    assert service.resume(scouts[0])
    list(service.attach(scouts[0]))
    status = service.status(scouts[0])
    assert (status.state, status.resumed_from_step) == ("done", 2)
    one, other = (load_latents(service.status(job_id).folder / LATENTS) for job_id in (whole, scouts[0]))
    assert torch.equal(one, other)
    assert service.status(scouts[1]).state == "paused"
