"""Schedulers and noise schedules that a person may choose for I2VGen-XL: diffusers' own numbers, and the same whether a
run is laid down after any of its steps or not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers.guiders.guider_utils import rescale_noise_cfg
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from i2v.engine.checkpoint import Identity, identity_of, load_progress, save_checkpoint
from i2v.families import SPECS
from i2v.families.base import Inputs
from i2v.families.guidance import guide, scale_at
from i2v.families.i2vgen_xl.model import load as load_i2vgen
from i2v.families.scheduler_choices import BETAS, SCHEDULERS
from i2v.messages import LOCALES, catalogue
from i2v.plan import Plan
from i2v.request import GUIDANCE_CURVES, GenerationRequest
from i2v.video.picture import fit_picture
from tests.engine.test_pipeline import handed_our_noise, relative_difference, stock, stock_pipeline
from tests.going_on import THEIRS, encoded, gone_on_with, stepped

NANO = Path(__file__).parents[2] / "i2v/assets/nano"
STEPS = 4


@pytest.fixture(scope="module")
def small(request_: GenerationRequest) -> GenerationRequest:
    return replace(request_, width=64, height=64, num_frames=2, num_inference_steps=STEPS)


@pytest.fixture(scope="module")
def i2vgen(light_checkpoint: Path, photo: Image.Image, small: GenerationRequest):
    """diffusers' pipeline, the same weights here, the picture, and what encode makes of it."""
    picture = fit_picture(photo, 64, 64, "crop")
    with stock_pipeline(light_checkpoint) as pipe:
        ours = load_i2vgen(light_checkpoint, torch.float32)
        yield pipe, ours, picture, encoded(ours, small, Inputs({0: picture}))


def test_all_that_families_offer_are_choices_and_diffusers_classes() -> None:
    assert set(THEIRS) == set(SCHEDULERS)
    for spec in SPECS.values():
        assert set(spec.scheduler_steps) <= set(SCHEDULERS)
        assert set(spec.betas) <= set(BETAS)
        assert all(1 <= low < high for low, high in spec.scheduler_steps.values())
        own = {SCHEDULERS[name].class_name for name in spec.scheduler_steps}
        assert not own or spec.schedulers[0] in own  # what its checkpoints are published with can be named


@pytest.mark.parametrize("locale", LOCALES)
def test_of_each_choice_there_is_something_to_know(locale: str) -> None:
    assert {f"ui.scheduler_about_{name}" for name in SCHEDULERS} <= set(catalogue(locale))


@pytest.mark.parametrize("name", SPECS["i2vgen_xl"].scheduler_steps)
@pytest.mark.parametrize("betas", [None, *SPECS["i2vgen_xl"].betas])
def test_i2vgen_gives_diffusers_own_and_goes_on_after_any_step(i2vgen, small, tmp_path, name, betas) -> None:
    pipe, ours, picture, conditioning = i2vgen
    (cls, settings), request = THEIRS[name], replace(small, scheduler=name, betas=betas)
    if betas is not None:
        settings = settings | {"beta_schedule": "squaredcos_cap_v2", "rescale_betas_zero_snr": "zero_snr" in betas}
    pipe.scheduler = handed_our_noise(cls.from_config(ours.scheduler.config, **settings))
    wanted = stock(pipe, request, picture, "latent")
    if betas is None:
        latents = gone_on_with(ours, request, conditioning, tmp_path)
    else:
        latents = stepped(ours, request, conditioning)[-1].latents
    assert relative_difference(latents, wanted) < 1e-4


def test_betas_alone_leave_the_scheduler_as_it_is(i2vgen, small) -> None:
    _, ours, _, conditioning = i2vgen
    own = stepped(ours, small, conditioning)[-1].latents
    # The checkpoint says so itself.
    same = stepped(ours, replace(small, betas="cosine_zero_snr"), conditioning)[-1].latents
    assert torch.equal(same, own)
    assert not torch.allclose(stepped(ours, replace(small, betas="cosine"), conditioning)[-1].latents, own)


# --- guidance over the steps ---


@pytest.mark.parametrize("mode", ["batch", "split"])
@pytest.mark.parametrize("rescale", [0.0, 0.3, 1.0])
def test_rescaled_guidance_is_diffusers_own(mode: str, rescale: float) -> None:
    draw = torch.Generator().manual_seed(1)
    without, wanted = (torch.randn(1, 4, 3, 5, 5, generator=draw) * scale for scale in (1.0, 0.6))
    pushed = without + 9.0 * (wanted - without)
    theirs = rescale_noise_cfg(pushed, wanted, guidance_rescale=rescale)
    ours = guide(lambda one: one, without=(without,), wanted=(wanted,), scale=9.0, mode=mode, rescale=rescale)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    if not rescale:
        assert torch.equal(ours, pushed)  # to the bit what it is without


@given(st.floats(0, 100), st.integers(1, 500), st.sampled_from(GUIDANCE_CURVES))
def test_guidance_over_the_steps_is_as_strong_as_asked_on_average(scale: float, steps: int, curve: str) -> None:
    request = GenerationRequest("m", "p", 64, 64, 2, 8, steps, scale, 0, guidance_curve=curve)
    scales = [scale_at(scale, request, index) for index in range(steps)]
    assert sum(scales) / steps == pytest.approx(scale, rel=1e-6)
    if curve == "constant" or scale <= 1:
        assert scales == [scale] * steps  # to the bit
        return
    assert all(one > 1 for one in scales) or scale < 1.001  # or a step would have one pass where the plan counts two
    assert scales == sorted(scales, reverse=curve == "falling")


@pytest.mark.parametrize(("curve", "scales"), [("falling", (8.5, 3.5)), ("rising", (3.5, 8.5))])
def test_guidance_follows_its_curve(i2vgen, small, curve, scales) -> None:
    """Each step against one with that guidance throughout, from the same latents."""
    _, ours, _, conditioning = i2vgen
    request = replace(small, num_inference_steps=2, guidance_scale=6.0)
    steps = stepped(ours, replace(request, guidance_curve=curve), conditioning)
    first = stepped(ours, replace(request, guidance_scale=scales[0]), conditioning)[0]
    assert torch.equal(steps[0].latents, first.latents)
    second = stepped(ours, replace(request, guidance_scale=scales[1]), conditioning, steps[0])[0]
    assert torch.equal(steps[1].latents, second.latents)
    rescaled = stepped(ours, replace(request, guidance_rescale=0.7), conditioning)
    assert not torch.allclose(rescaled[0].latents, stepped(ours, request, conditioning)[0].latents)


# --- what tells a run from another ---


@pytest.mark.parametrize(
    "change",
    [{"scheduler": "unipc"}, {"scheduler": "ddim"}, {"betas": "cosine"}, {"guidance_rescale": 0.7},
     {"guidance_curve": "falling"}],
)  # fmt: skip
def test_progress_is_not_taken_up_with_another_scheduler_or_guidance(
    i2vgen, small, light_checkpoint, tmp_path, change
) -> None:
    def whose(request: GenerationRequest) -> Identity:
        return identity_of(request, Plan(), tmp_path, light_checkpoint, "i2vgen_xl")

    _, ours, _, conditioning = i2vgen
    progress = stepped(ours, replace(small, num_inference_steps=1), conditioning)[0]
    save_checkpoint(tmp_path, progress, whose(small))
    assert load_progress(tmp_path, whose(small))[1] == ""
    assert load_progress(tmp_path, whose(replace(small, **change))) == (None, "request")
