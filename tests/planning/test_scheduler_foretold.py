"""Schedulers in the prediction: what they keep from step to step, to the byte on the simulated card."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from i2v.families import SPECS
from i2v.families.hunyuan_video.model import HunyuanVideo
from i2v.families.i2vgen_xl.model import I2VGenXL, load
from i2v.families.nano.fields import CHANNELS, KEY_TIMES, field_size
from i2v.families.scheduler_choices import SCHEDULERS
from i2v.families.schedulers import begun, take_step
from i2v.plan import Plan, everywhere
from i2v.planning.planner import with_scheduler
from tests.planning.fake_card import ELSEWHERE, Watch
from tests.planning.phase_peaks import run
from tests.planning.support import job, made_up

FAMILY = SPECS["i2vgen_xl"]


@pytest.fixture(scope="module")
def model(small_models: dict[str, Path]) -> I2VGenXL:
    return load(small_models["i2vgen_xl"], torch.float32)


def test_what_a_scheduler_keeps_is_held_in_denoising_to_the_byte(model) -> None:
    plan, peaks = Plan(device="simulated", places=everywhere("staged"), cfg="split"), {}
    for name in ("ddim", "ddim", "dpmpp_2m", "unipc", "euler"):  # what is made once for all is made by the first
        latents, found = run(model, replace(job(32, 32, 2, 3), scheduler=name), plan)
        peaks[name] = found["denoise"]
    size_bytes = latents.numel() * latents.element_size()
    for name, peak in peaks.items():
        # A timestep that is no whole number comes to the card in single precision, another takes 8 bytes more.
        assert peak - peaks["ddim"] in (SCHEDULERS[name].keeps * size_bytes, SCHEDULERS[name].keeps * size_bytes - 8)


def test_of_a_long_clip_it_lies_on_the_host(model) -> None:
    plan, peaks = Plan(device="simulated", places=everywhere("staged"), cfg="split"), {}
    asked = job(32, 32, FAMILY.longer.native_frames + 1, 3)
    for name in ("ddim", "ddim", "dpmpp_2m"):
        _, found = run(model, replace(asked, scheduler=name), plan)
        peaks[name] = found["denoise"]
    assert peaks["dpmpp_2m"] in (peaks["ddim"], peaks["ddim"] - 8)
    request = replace(asked, scheduler="dpmpp_2m")
    assert with_scheduler(made_up, FAMILY)(request, Plan()) == made_up(request, Plan())


def test_the_plan_counts_it() -> None:
    source = with_scheduler(made_up, FAMILY)
    for name in (None, *FAMILY.scheduler_steps):
        request = replace(job(), scheduler=name)
        (plain, _), (found, exact) = made_up(request, Plan()), source(request, Plan())
        more = [
            one.activations_bytes - other.activations_bytes
            for one, other in zip(found.phases, plain.phases, strict=True)
        ]
        assert exact
        assert more == [0, 0 if name is None else SCHEDULERS[name].keeps * 4 * 4 * 64 * 64 * 16, 0]
    assert with_scheduler(lambda *_: None, FAMILY)(job(), Plan()) is None


@given(st.integers(8, 512), st.integers(8, 512), st.integers(1, 60))
def test_no_family_has_more_latents_than_its_spec_says(width: int, height: int, fourth: int) -> None:
    width, height, frames = width * 8, height * 8, 4 * fourth + 1
    h, w = field_size(height, width)
    assert CHANNELS * len(KEY_TIMES) * h * w <= SPECS["nano"].latent_numbers(width, height, frames)
    request = replace(job(width, height, frames))
    batch, channels, latent_frames, *cells = HunyuanVideo._latent_shape(None, request)
    with_picture = batch * channels * (latent_frames + 1) * cells[0] * cells[1]
    assert with_picture == SPECS["hunyuan_video"].latent_numbers(width, height, frames)


@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m", "dpmpp_2m_sde", "unipc"])
def test_a_card_waits_for_no_scheduler(name: str) -> None:
    """Of second order from the second step on. Euler looks at its own numbers, which are on the host; without contents
    there are none."""
    scheduler, watch = begun(replace(job(steps=4), scheduler=name), DDIMScheduler()), Watch()
    watch.stepping, timesteps = True, [int(timestep) for timestep in scheduler.timesteps]
    with FakeTensorMode(allow_non_fake_inputs=True), watch:
        sample, output = (torch.empty(2, 4, 8, 8, device=ELSEWHERE) for _ in range(2))
        for index, timestep in enumerate(timesteps):
            sample = take_step(scheduler, output, timestep, sample, seed=5, index=index).prev_sample
            assert sample.device == ELSEWHERE
    assert watch.on_card > 20
    assert watch.waits == []
