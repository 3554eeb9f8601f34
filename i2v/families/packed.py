"""Several latents in one tensor: a model that denoises pictures and sound together has both in one run, and the engine
keeps, checks and goes on from a single one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def joined(parts: Sequence[Tensor]) -> Tensor:
    """(1, N): all numbers of `parts`, one after the other."""
    return torch.cat([part.reshape(1, -1) for part in parts], dim=1)


def parted(packed: Tensor, shapes: Sequence[Sequence[int]]) -> list[Tensor]:
    """The parts again, in their `shapes`; views of `packed`."""
    sizes = [math.prod(shape) for shape in shapes]
    return [part.reshape(tuple(shape)) for part, shape in zip(packed.split(sizes, dim=1), shapes, strict=True)]
