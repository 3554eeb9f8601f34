"""How the noise of LTX-2 goes down over the steps, in one stage or in two."""

from __future__ import annotations

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.ltx2.pipeline_ltx2 import calculate_shift
from diffusers.pipelines.ltx2.utils import DISTILLED_SIGMA_VALUES, STAGE_2_DISTILLED_SIGMA_VALUES

from i2v.families.ltx2.stages import DISTILLED_STEPS
from i2v.families.schedulers import shifted
from i2v.messages import UserError
from i2v.request import GenerationRequest

Scheduler = FlowMatchEulerDiscreteScheduler


def schedule(own: Scheduler, request: GenerationRequest, tokens: int) -> Scheduler:
    """The schedule of a run that begins with so many tokens, by the checkpoint's `own`; with that of a second stage
    behind it where there are two."""
    first = _first(own, request, tokens)
    made = _with_second(first, own) if request.two_stages else first
    made.set_begin_index(0)  # else a step would look for its place by value
    return made


def _first(own: Scheduler, request: GenerationRequest, tokens: int) -> Scheduler:
    """It leans towards noise the more, the more tokens there are, or as is asked. As many steps without guidance as
    distilled weights learned are else those that they learned."""
    config, steps = own.config, request.num_inference_steps
    if request.flow_shift is None and request.guidance_scale <= 1 and steps == DISTILLED_STEPS:
        return _distilled(own, DISTILLED_SIGMA_VALUES)
    if steps < 2 and config.get("shift_terminal"):
        name = type(own).__name__
        raise UserError("models.scheduler_steps", scheduler=name, steps=steps, error="shift_terminal takes two.")
    names = ("base_image_seq_len", "max_image_seq_len", "base_shift", "max_shift")
    usual = (1024, 4096, 0.95, 2.05)
    mu = calculate_shift(tokens, *map(config.get, names, usual))
    made = shifted(request, own)
    made.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu)
    return made


def _distilled(own: Scheduler, sigmas: list[float]) -> Scheduler:
    """A schedule that distilled weights learned, as it is."""
    made = type(own).from_config(own.config, use_dynamic_shifting=False, shift_terminal=None)
    made.set_timesteps(sigmas=sigmas)
    return made


def _with_second(first: Scheduler, own: Scheduler) -> Scheduler:
    """The schedule of the first stage, which ends without noise, and behind it that of the second, whatever shift the
    first was asked for: the step between them goes from no noise to as much as the second begins with."""
    both = _distilled(own, STAGE_2_DISTILLED_SIGMA_VALUES)
    both.timesteps = torch.cat([first.timesteps, first.timesteps.new_zeros(1), both.timesteps])
    both.sigmas = torch.cat([first.sigmas, both.sigmas])
    return both
