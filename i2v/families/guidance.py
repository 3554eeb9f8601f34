"""Classifier-free guidance: the model's answer with the prompt, pushed away from its answer without."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from diffusers.guiders.guider_utils import rescale_noise_cfg
from torch import Tensor

from i2v.plan import CfgMode
from i2v.request import GenerationRequest, GuidanceCurve

CURVES: Mapping[GuidanceCurve, Callable[[float], float]] = {
    "falling": lambda done: 2 * (1 - done),
    "rising": lambda done: 2 * done,
    "cosine": lambda done: 1 - math.cos(math.pi * done),
}
"""How strong guidance is once this share of a run is done, where it is not constant; 1 on average. "invlinear",
"linear" and "cosine" of Wang et al., 2024, Analysis of Classifier-Free Guidance Weight Schedulers (arXiv 2404.13040),
whose time runs the other way."""


def scale_at(scale: float, request: GenerationRequest, index: int) -> float:
    """The guidance `scale` of the run as it is in step `index`, in the middle of that step: never 1 where it is not 1
    in the run, so that every step has as many passes. What grows and falls is how far it is beyond 1."""
    if scale <= 1 or request.guidance_curve == "constant":
        return scale
    return 1 + (scale - 1) * CURVES[request.guidance_curve]((index + 0.5) / request.num_inference_steps)


def guided(without: Tensor, wanted: Tensor, scale: float | Tensor, rescale: float = 0.0) -> Tensor:
    """`without + scale * (wanted - without)` (Ho and Salimans, 2022). `rescale`, from 0 to 1: how far its standard
    deviation is brought back to that of `wanted`, which strong guidance exceeds (Lin et al., 2023, section 3.4)."""
    pushed = without + scale * (wanted - without)
    return rescale_noise_cfg(pushed, wanted, guidance_rescale=rescale) if rescale else pushed


def guide(
    predict: Callable[..., Tensor],
    *,
    without: Sequence[Tensor],
    wanted: Sequence[Tensor],
    scale: float | Tensor,
    mode: CfgMode,
    rescale: float = 0.0,
) -> Tensor:
    """What `predict` answers to either, `guided`.

    `without` and `wanted` are the arguments of `predict`, batch first. Both modes give the same numbers: "batch" asks
    once with twice the batch, "split" asks twice with half the memory. Scale 1 asks only for what is wanted; a tensor
    is a scale for each part of the answer, and always asks for both.
    """
    if not isinstance(scale, Tensor) and scale == 1:
        return predict(*wanted)
    if mode == "batch":
        both = predict(*(torch.cat(pair) for pair in zip(without, wanted, strict=True)))
        first, second = both.chunk(2)
    else:
        first, second = predict(*without), predict(*wanted)
    return guided(first, second, scale, rescale)
