"""Whole runs of HunyuanVideo against diffusers' own pipeline on the same weights and noise; and from a video, for which
there is none, at the ends where the answer is known."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import HunyuanVideoPipeline

from i2v.engine.cancel import GenerationPaused
from i2v.engine.checkpoint import identity_of, load_progress
from i2v.events import Resumed, StepFinished
from i2v.families.hunyuan_video import model as hunyuan_video
from i2v.families.hunyuan_video.model import flow_shift, load
from i2v.families.hunyuan_video.spec import SPEC
from i2v.memory import attention as attention_of_plans
from i2v.memory.card import HostCard
from i2v.messages import UserError
from i2v.plan import Plan
from i2v.request import GenerationRequest, Input
from i2v.video.clip import read_clip
from tests.hunyuan_runs import PLANS, Runs, Theirs, made_once, pipeline_of, relative, stock
from tests.video_support import film


@pytest.fixture
def run(checkpoint: Path, tmp_path: Path) -> Runs:
    return Runs("hunyuan_video", checkpoint, tmp_path)


@pytest.fixture(scope="module")
def theirs(pipeline: HunyuanVideoPipeline) -> Theirs:
    return made_once(lambda request: stock(pipeline, request, "latent"))


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_latents_are_diffusers_own(run, theirs, job, plan):
    run(job, plan)
    assert relative(run.latents(), theirs(job)) < 1e-5


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "clouds drift", "guidance_scale": 1.0},
        {"num_frames": 1},
        {"width": 288, "num_frames": 21},
        {"true_guidance_scale": 3.0, "negative_prompt": "a garden"},
        {"prompt": "water ripples and the light of a street lamp flickers " * 50},
    ],
    ids=["short", "one-frame", "windows", "true-guidance", "too-long"],
)
def test_every_kind_of_request_is_diffusers_own(run, theirs, job, change):
    request = replace(job, **change)
    run(request, Plan(chunk_tokens=100))
    assert relative(run.latents(), theirs(request)) < 1e-5


@pytest.mark.parametrize("attention", ["flash", "sage", "xformers"])
def test_what_is_attended_with_is_used_or_said_to_be_missing(run, job, monkeypatch, attention):
    """None of the packages is here; where one is, every step is made inside of it."""
    plan = Plan(attention=attention, chunk_tokens=100)
    with pytest.raises(UserError) as refused:
        run(job, plan)
    assert refused.value.message.id == "family.attention_missing"
    used: list[str] = []

    @contextmanager
    def backend(name: str):
        used.append(name)
        yield

    monkeypatch.setattr(attention_of_plans, "attention_backend", backend)
    run(job, plan)
    assert used == [attention] * (1 + job.num_inference_steps)


def test_progress_is_not_taken_up_under_another_attention(run, job):
    with pytest.raises(GenerationPaused):
        run(job, Plan(), stop_at=2)
    lossy = identity_of(job, Plan(attention="sage"), run.jobs / "job", run.entry.folder, "hunyuan_video")
    assert load_progress(run.jobs / "job", lossy) == (None, "precision")


def test_small_pictures_have_a_smaller_shift(job):
    shift = {(w, h): flow_shift(replace(job, width=w, height=h), 7.0) for w, h in ((512, 384), (960, 544), (720, 1280))}
    assert shift == {(512, 384): 5.0, (960, 544): 7.0, (720, 1280): 7.0}
    assert flow_shift(job, 3.0) == 3.0
    assert SPEC.hints.practised_pixels == hunyuan_video.SMALL_PIXELS  # the hint is of the same sizes


def test_frames_are_diffusers_own(run, pipeline, job):
    request = replace(job, width=288, num_frames=21)
    run(request, Plan())
    video = torch.from_numpy(stock(pipeline, request, "np")[0])
    model = load(run.entry.folder, torch.float32)
    frames = torch.stack(list(model.decode(HostCard(), {}, run.latents(), request, Plan())))
    assert frames.shape == video.shape
    assert (frames.float() / 255 - video).abs().max() < 1e-2


def test_half_precision_is_no_further_from_float32_than_diffusers(run, theirs, job):
    exact = theirs(job)
    run(job, Plan(precision="bfloat16", chunk_tokens=100))
    ours = relative(run.latents(), exact)
    # One of its own: what was rounded once would stay so for the tests that follow.
    half = pipeline_of(HunyuanVideoPipeline, run.entry.folder).to(torch.bfloat16)
    assert ours < 1.2 * relative(stock(half, job, "latent"), exact)


def test_a_paused_run_goes_on_as_if_it_never_was(run, job):
    run(job, Plan(), "straight")
    with pytest.raises(GenerationPaused):
        run(job, Plan(), "paused", stop_at=2)
    events = run(job, Plan(chunk_tokens=50), "paused")
    assert [event.step for event in events if isinstance(event, Resumed)] == [2]
    assert [event.index for event in events if isinstance(event, StepFinished) and event.phase == "denoise"] == [3]
    assert relative(run.latents("paused"), run.latents("straight")) < 1e-6


# --- from a video ---


@pytest.fixture
def from_clip(job: GenerationRequest, tmp_path: Path) -> Callable[[float], GenerationRequest]:
    film(tmp_path / "clip.mp4", rate="24", seconds=1)

    def from_clip(strength: float) -> GenerationRequest:
        return replace(job, task="v2v", inputs=(Input("video", "../clip.mp4", None, strength),))

    return from_clip


def test_all_the_way_from_a_video_is_from_the_sentence_alone(run, job, from_clip):
    run(job, Plan(), "sentence")
    run(from_clip(1.0), Plan(), "video")
    assert torch.equal(run.latents("video"), run.latents("sentence"))


def test_no_way_from_a_video_is_the_video_itself(run, from_clip):
    request = from_clip(0.0)
    run(request, Plan(decode_frames=0))
    model = load(run.entry.folder, torch.float32)
    clip = read_clip(run.jobs / "clip.mp4", request.width, request.height, request.num_frames, request.fps, "crop")
    model.vae.enable_tiling()
    pixels = torch.from_numpy(np.stack(clip)).permute(3, 0, 1, 2)[None]
    latents = model.vae.encode(pixels.float() / 255 * 2 - 1).latent_dist.mode() * model.vae.config.scaling_factor
    assert relative(run.latents(), latents) < 1e-6


def test_strength_says_how_far_a_video_is_left(run, from_clip):
    far = {}
    for strength in (0.1, 0.5, 0.9):
        run(from_clip(strength), Plan(), f"{strength}")
        far[strength] = run.latents(f"{strength}")
    run(from_clip(0.0), Plan(), "none")
    distance = [relative(one, run.latents("none")) for one in far.values()]
    assert distance == sorted(distance)
    assert distance[0] > 0
