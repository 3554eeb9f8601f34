"""Schedulers that a person may choose for HunyuanVideo: diffusers' own pipeline with the same scheduler, and the same
whether a run is laid down after any of its steps or not; from a video and guided twice, where the answer is known."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import HunyuanVideoPipeline
from diffusers.guiders.guider_utils import rescale_noise_cfg
from torch import Tensor

from i2v.families.base import Inputs
from i2v.families.hunyuan_video.model import HunyuanVideo, flow_shift, load
from i2v.families.hunyuan_video.spec import SPEC
from i2v.families.schedulers import LEAST_BEGIN, begun_flow
from i2v.request import GenerationRequest, Input
from tests.going_on import encoded, gone_on_with, stepped
from tests.hunyuan_runs import relative
from tests.hunyuan_schedulers import flow_scheduler


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> HunyuanVideo:
    return load(checkpoint, torch.float32)


def stock(pipeline: HunyuanVideoPipeline, request: GenerationRequest) -> Tensor:
    return pipeline(
        prompt=request.prompt, width=request.width, height=request.height, num_frames=request.num_frames,
        num_inference_steps=request.num_inference_steps, guidance_scale=request.guidance_scale,
        generator=torch.Generator().manual_seed(request.seed), output_type="latent",
    ).frames  # fmt: skip


@pytest.mark.parametrize("name", SPEC.scheduler_steps)
def test_every_scheduler_is_diffusers_own_and_goes_on_after_any_step(pipeline, model, job, tmp_path, name) -> None:
    request = replace(job, num_inference_steps=4, scheduler=name)
    own, shift = pipeline.scheduler, flow_shift(request, 7.0)
    pipeline.scheduler = flow_scheduler(name, own.config, shift)
    try:
        wanted = stock(pipeline, request)
    finally:
        pipeline.scheduler = own
    latents = gone_on_with(model, request, encoded(model, request, Inputs()), tmp_path)
    assert relative(latents, wanted) < 1e-4


def test_the_checkpoints_own_scheduler_by_its_name_is_what_it_is_without(model, job) -> None:
    own, named = (replace(job, scheduler=name) for name in (None, "flow_euler"))
    conditioning = encoded(model, own, Inputs())
    assert torch.equal(stepped(model, own, conditioning)[-1].latents, stepped(model, named, conditioning)[-1].latents)


@pytest.mark.parametrize("name", SPEC.scheduler_steps)
@pytest.mark.parametrize("strength", [1.0, 0.5, 0.01, 0.0])
def test_from_a_video_all_steps_are_over_what_strength_leaves(model, job, name, strength) -> None:
    request = replace(job, task="v2v", scheduler=name, inputs=(Input("video", "clip.mp4", None, strength),))
    scheduler = begun_flow(request, model.scheduler, shift=7.0, begin=strength)
    steps = request.num_inference_steps
    assert (len(scheduler.timesteps), len(scheduler.sigmas)) == (steps, steps + 1)
    least = 0.0 if name == "flow_euler" else LEAST_BEGIN
    begin = max(strength, least)
    assert float(scheduler.sigmas[0]) == pytest.approx(7 * begin / (1 + 6 * begin), abs=2e-3)
    assert float(scheduler.sigmas[-1]) == 0
    assert (np.diff(scheduler.sigmas.numpy()) < 0).all() or strength == 0
    sample = torch.ones(1, 2, 2)
    for timestep in scheduler.timesteps:
        sample = scheduler.step(torch.ones(1, 2, 2), timestep, sample).prev_sample
    assert torch.isfinite(sample).all()
    # A velocity that is the same everywhere is followed exactly, whatever the solver.
    assert torch.allclose(sample, torch.ones(1, 2, 2) - scheduler.sigmas[0], atol=1e-3)


# --- guided twice ---


@pytest.fixture
def twice(job: GenerationRequest) -> GenerationRequest:
    return replace(job, true_guidance_scale=3.0, negative_prompt="a garden", num_inference_steps=2)


def test_rescaled_guidance_is_diffusers_own(model, twice) -> None:
    """Of one step, whose two answers are taken from the network as it gives them."""
    request = replace(twice, num_inference_steps=1, guidance_rescale=0.7)
    answers: list[Tensor] = []
    hook = model.transformer.register_forward_hook(lambda _, __, answer: answers.append(answer[0]))
    conditioning = encoded(model, request, Inputs())
    latents = stepped(model, request, conditioning)[-1].latents
    hook.remove()
    wanted, without = answers
    velocity = rescale_noise_cfg(without + 3.0 * (wanted - without), wanted, guidance_rescale=0.7)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(request.seed))
    assert relative(latents, noise - velocity) < 1e-5
    assert not torch.allclose(latents, stepped(model, twice, conditioning)[-1].latents, atol=1e-3)


@pytest.mark.parametrize(
    ("curve", "scales"),
    [
        ("falling", (4.0, 2.0)),
        ("rising", (2.0, 4.0)),
        ("cosine", (1 + 2 * (1 - math.sqrt(0.5)), 1 + 2 * (1 + math.sqrt(0.5)))),
    ],
)
def test_guidance_follows_its_curve(model, twice, curve, scales) -> None:
    """Each step against one with that guidance throughout, from the same latents."""
    conditioning = encoded(model, twice, Inputs())
    steps = stepped(model, replace(twice, guidance_curve=curve), conditioning)
    first = stepped(model, replace(twice, true_guidance_scale=scales[0]), conditioning)[0]
    assert relative(steps[0].latents, first.latents) < 1e-5
    second = stepped(model, replace(twice, true_guidance_scale=scales[1]), conditioning, steps[0])[0]
    assert relative(steps[1].latents, second.latents) < 1e-5
