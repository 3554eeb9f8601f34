"""What a family's `training` module offers: how its denoiser is trained. And the arithmetic that such modules share.

A LoRA is trained on the network that denoises; everything else stays as it was read. What the network is given (text,
picture, latents) does not change while it is trained, so it is made once for every clip and kept on disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from i2v.families.base import Conditioning
from i2v.memory.card import Card
from i2v.request import GenerationRequest

Example = Conditioning
"""All that is kept of one clip, by name; `latents` among it: what the network is to predict."""


@dataclass(frozen=True)
class Draw:
    """What is random in one batch of B examples. `noise`: as the latents, one after the other (B, ...), normal;
    `levels`: (B,) float32 from 0 to 1, evenly spread, how noisy each of them is; `dropped`: (B,) float32, 1 where the
    sentence is left out."""

    noise: Tensor
    levels: Tensor
    dropped: Tensor


class Trainer(Protocol):
    """How one loaded model is trained; `trainer(model)` in a family's `training` module makes it. `component`: the
    network that a LoRA is trained on. `targets`: a regular expression of the layers that get one. `measured_with`: the
    components that must be on the card while `measured` runs."""

    component: str
    targets: str
    measured_with: tuple[str, ...]

    def blocks(self, network: nn.Module) -> Sequence[nn.Module]:
        """The parts of the network that may be computed again in the backward pass, in the order in which they run;
        none is inside another."""
        ...

    def measured(
        self, card: Card, frames: Sequence[Image.Image], request: GenerationRequest, conditioning: Conditioning
    ) -> Example:
        """The example of a clip, on the card: from its frames, in the size of `request`, and what the family's own
        encode stages made of caption and first frame, which is on the card as well."""
        ...

    def loss(self, network: nn.Module, examples: Sequence[Example], draw: Draw, consistency: float) -> Tensor:
        """() float32: how far the network is from what it is to predict, for examples of one size. `consistency`: how
        much the change from frame to frame counts beside."""
        ...


def weighted_error(predicted: Tensor, wanted: Tensor, weights: Tensor | float = 1.0) -> Tensor:
    """() the mean of the weighted squared error, in float32."""
    return ((predicted.float() - wanted.float()).square() * weights).mean()


def change_error(predicted: Tensor, wanted: Tensor, weights: Tensor | float = 1.0) -> Tensor:
    """() how much the change from frame to frame of clean latents (B, C, F, h, w) differs from what it is to be; 0 for
    a single frame. Weighted, since of nearly pure noise the clean latents are hardly known."""
    if wanted.shape[2] == 1:
        return predicted.new_zeros((), dtype=predicted.float().dtype)
    error = (predicted.float() - wanted.float()).diff(dim=2)
    return (error.square() * weights).mean()


def padded(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Rows (1, T, D) of several lengths as one (B, T, D), zeros behind the shorter ones; and (B, T), 1 where a row is
    and 0 behind it."""
    longest = max(row.shape[1] for row in rows)
    filled = [functional.pad(row, (0, 0, 0, longest - row.shape[1])) for row in rows]
    there = [functional.pad(row.new_ones(1, row.shape[1]), (0, longest - row.shape[1])) for row in rows]
    return torch.cat(filled), torch.cat(there)


def stacked(examples: Sequence[Example], name: str) -> Tensor:
    """What all examples have under `name`, one after the other."""
    return torch.cat([one[name] for one in examples])


def kept_or_dropped(examples: Sequence[Example], wanted: str, without: str, dropped: Tensor) -> Tensor:
    """As `stacked` of `wanted`, and of `without` where `dropped` (B,) is 1."""
    rows = stacked(examples, wanted)
    gone = dropped.view(-1, *(1 for _ in rows.shape[1:]))
    return rows + gone.to(rows) * (stacked(examples, without) - rows)
