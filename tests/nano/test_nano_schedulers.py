"""Schedulers that a person may choose for nano: what diffusers' scheduler gives in a plain loop around the same
network, and the same whether a run is laid down after any of its steps or not."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from i2v.families import SPECS
from i2v.families.base import Conditioning, Inputs
from i2v.families.nano.fields import CHANNELS
from i2v.families.nano.model import Nano, load
from i2v.families.schedulers import STEP_SEED_OFFSET
from i2v.request import GenerationRequest
from tests.going_on import THEIRS, encoded, gone_on_with, stepped
from tests.hunyuan_runs import relative
from tests.nano.pictures import textured

SHIPPED = Path(__file__).parents[2] / "i2v/assets/nano"
REQUEST = GenerationRequest(
    model="nano", prompt="zoom in, clouds drift", width=96, height=64, num_frames=5, fps=12, num_inference_steps=3,
    guidance_scale=2.0, seed=11,
)  # fmt: skip


@pytest.fixture(scope="module")
def nano(folder: Path) -> Nano:
    return load(folder, torch.float32)


@pytest.fixture(scope="module")
def seen(nano: Nano) -> Conditioning:
    return seen_by(nano)


def seen_by(nano: Nano) -> Conditioning:
    """What encode makes of a picture."""
    picture = Image.fromarray((textured(96) * 255).astype(np.uint8)).crop((0, 0, REQUEST.width, REQUEST.height))
    return encoded(nano, REQUEST, Inputs({0: picture}))


def plain_loop(nano: Nano, request: GenerationRequest, conditioning: Conditioning, scheduler) -> Tensor:
    """The run as diffusers' documentation has it: scale, predict, guide, step. What the network is given beside the
    latents and the time is taken from its first two calls here, without the prompt and with it."""
    calls: list[tuple[tuple, dict]] = []
    hook = nano.unet.register_forward_pre_hook(lambda _, args, named: calls.append((args, named)), with_kwargs=True)
    stepped(nano, replace(request, num_inference_steps=1, scheduler=None), conditioning)
    hook.remove()
    given = calls[0][0][0]
    scheduler.set_timesteps(request.num_inference_steps)
    shape = (1, CHANNELS, *given.shape[2:])
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(request.seed)) * scheduler.init_noise_sigma
    with torch.no_grad():
        for position, timestep in enumerate(scheduler.timesteps):
            sample = torch.cat([scheduler.scale_model_input(latents, timestep), given[:, CHANNELS:]], dim=1)
            without, wanted = (nano.unet(sample, timestep, **named)[0] for _, named in calls)
            velocity = without + request.guidance_scale * (wanted - without)
            drawn = {}
            if "generator" in inspect.signature(scheduler.step).parameters:
                seed = request.seed + STEP_SEED_OFFSET * (position + 1)
                drawn = {"generator": torch.Generator().manual_seed(seed)}
            latents = scheduler.step(velocity, timestep, latents, **drawn).prev_sample
    return latents


@pytest.mark.parametrize("name", SPECS["nano"].scheduler_steps)
def test_every_scheduler_is_diffusers_own_and_goes_on_after_any_step(nano, seen, tmp_path, name) -> None:
    cls, settings = THEIRS[name]
    wanted = plain_loop(nano, REQUEST, seen, cls.from_config(nano.scheduler.config, **settings))
    latents = gone_on_with(nano, replace(REQUEST, scheduler=name), seen, tmp_path)
    assert relative(latents, wanted) < 1e-4


def test_the_checkpoints_own_scheduler_by_its_name_is_what_it_is_without(nano, seen) -> None:
    own, named = (stepped(nano, replace(REQUEST, scheduler=name), seen)[-1].latents for name in (None, "ddim"))
    assert torch.equal(own, named)


def test_noise_of_a_step_is_drawn_by_the_seed(nano, seen) -> None:
    request = replace(REQUEST, scheduler="dpmpp_2m_sde")
    first = stepped(nano, request, seen)[-1].latents
    torch.randn(3)  # of the stream that everybody shares
    assert torch.equal(stepped(nano, request, seen)[-1].latents, first)
    assert not torch.allclose(stepped(nano, replace(request, seed=8), seen)[-1].latents, first)


def test_the_preview_is_of_what_the_network_expects_and_not_of_noise() -> None:
    """Of the trained network: another expects nothing."""
    shipped = load(SHIPPED, torch.float32)
    conditioning = seen_by(shipped)
    for name in ("dpmpp_2m", "unipc"):
        request = replace(REQUEST, num_inference_steps=4, scheduler=name, guidance_scale=1.0)
        steps = stepped(shipped, request, conditioning)
        final = steps[-1].latents
        assert relative(steps[1].predicted, final) < 0.5 * relative(steps[1].latents, final)
