"""Classifier-free guidance: the model's answer with the prompt, pushed away from its answer without."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from i2v.plan import CfgMode


def guide(
    predict: Callable[..., Tensor], *, without: Sequence[Tensor], wanted: Sequence[Tensor], scale: float, mode: CfgMode
) -> Tensor:
    """`without + scale * (wanted - without)` of what `predict` answers to either (Ho and Salimans, 2022).

    `without` and `wanted` are the arguments of `predict`, batch first. Both modes give the same numbers: "batch" asks
    once with twice the batch, "split" asks twice with half the memory. Scale 1 asks only for what is wanted.
    """
    if scale == 1:
        return predict(*wanted)
    if mode == "batch":
        both = predict(*(torch.cat(pair) for pair in zip(without, wanted, strict=True)))
        first, second = both.chunk(2)
    else:
        first, second = predict(*without), predict(*wanted)
    return first + scale * (second - first)
