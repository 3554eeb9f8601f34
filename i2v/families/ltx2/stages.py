"""The stages in which LTX-2 denoises: at the full size alone; or at half of it, then, from latents that were made twice
as large, in a few steps at the full one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from i2v.families.denoising import UPSAMPLE
from i2v.request import GenerationRequest

WHOLE, HALF, FULL = "denoise", "denoise.half", "denoise.full"
DISTILLED_STEPS = 8  # of weights that learned to do without guidance, in the first stage
FULL_STEPS = 3  # in the second
MORE_STEPS = 1 + FULL_STEPS  # making larger is one
UPSAMPLER = "latent_upsampler"


def steps_of_stages(steps: int) -> Mapping[str, int]:
    """Of a run that was asked for in so many steps, those of each stage that it may have."""
    return {WHOLE: steps, HALF: steps, UPSAMPLE: 1, FULL: FULL_STEPS}


def stage_of(index: int, first_steps: int | None) -> str:
    """Which stage a step belongs to, where the first of two has so many; None where there is but one."""
    if first_steps is None:
        return WHOLE
    return HALF if index < first_steps else UPSAMPLE if index == first_steps else FULL


def at_half(request: GenerationRequest) -> GenerationRequest:
    """What the first of two stages makes."""
    return replace(request, width=request.width // 2, height=request.height // 2)
