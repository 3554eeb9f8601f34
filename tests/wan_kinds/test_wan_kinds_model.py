"""Whole runs of every kind of Wan against diffusers' own pipelines on the same weights and noise."""

from __future__ import annotations

import importlib
from dataclasses import replace

import pytest
import torch

from i2v.engine.cancel import GenerationPaused
from i2v.events import Resumed
from i2v.families import SPECS
from i2v.memory.card import HostCard
from i2v.models.verify import verify_folder
from i2v.plan import Plan
from tests.hunyuan_runs import PLANS, relative
from tests.step_caches import cached, told
from tests.wan_checkpoints import KINDS
from tests.wan_kinds.conftest import made_by, pipeline_of


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_latents_are_diffusers_own(run, theirs, job, plan):
    run(job, plan)
    assert relative(run.latents(), theirs(job)) < 1e-5


def test_without_guidance_latents_are_diffusers_own(run, theirs, job):
    request = replace(job, guidance_scale=1.0, negative_prompt="", num_frames=5, num_inference_steps=2)
    run(request, Plan(chunk_tokens=100))
    assert relative(run.latents(), theirs(request)) < 1e-5


def test_frames_are_diffusers_own(run, pipeline, job):
    request = replace(job, num_frames=5, num_inference_steps=1)
    run(request, Plan())
    video = torch.from_numpy(made_by(pipeline, request, "np")[0])
    model = importlib.import_module(f"i2v.families.{run.entry.family}.model").load(run.entry.folder, torch.float32)
    frames = torch.stack(list(model.decode(HostCard(), {}, run.latents(), request, Plan())))
    assert frames.shape == video.shape
    assert (frames.float() / 255 - video).abs().max() <= 0.5 / 255 + 1e-4
    preview = model.preview(run.latents(), {})
    assert preview.shape == (2, request.height // model.space_scale, request.width // model.space_scale, 3)


def test_half_precision_is_no_further_from_float32_than_diffusers(run, kind, theirs, job):
    exact = theirs(job)
    run(job, Plan(precision="bfloat16", chunk_tokens=100))
    half = pipeline_of(KINDS[kind], run.entry.folder, torch.bfloat16)
    half.vae.to(torch.float32)  # as its authors have it
    assert 0 < relative(run.latents(), exact) < 1.2 * relative(made_by(half, job, "latent"), exact)


def test_steps_are_cut_short_as_by_diffusers(run, pipeline, job):
    request, share = replace(job, num_frames=5), 0.9
    names = ("transformer", "transformer_2")
    networks = [one for name in names if (one := pipeline.components.get(name)) is not None]
    with cached(networks, share):
        theirs = made_by(pipeline, request, "latent")
    shortened, passes = told(run(request, Plan(step_cache=share, chunk_tokens=100)))
    assert (shortened, passes) == (passes - 2 * len(networks), 2 * request.num_inference_steps)
    assert relative(run.latents(), theirs) < 1e-5


def test_a_paused_run_goes_on_as_if_it_never_was(run, job):
    run(job, Plan(), "straight")
    with pytest.raises(GenerationPaused):
        run(job, Plan(), "paused", stop_at=2)
    events = run(job, Plan(chunk_tokens=50), "paused")
    assert [event.step for event in events if isinstance(event, Resumed)] == [2]
    assert relative(run.latents("paused"), run.latents("straight")) < 1e-6


def test_a_checkpoint_in_the_real_layout_is_taken(checkpoint, family):
    verify_folder(checkpoint, SPECS[family])
