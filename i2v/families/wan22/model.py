"""Wan 2.2 with two experts: one transformer makes the steps with much noise, another those with little. Number for
number diffusers' `WanPipeline` with a `boundary_ratio`; only one of the two is on the card at a time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from i2v.families.base import Conditioning
from i2v.families.wan.model import Wan, parts_of, transformer_blocks
from i2v.plan import Plan
from i2v.request import GenerationRequest

HIGH, LOW = "denoise.high", "denoise.low"  # much noise, little noise
EXPERTS = {HIGH: ("transformer",), LOW: ("transformer_2",)}


def load(folder: Path, precision: torch.dtype) -> WanOfExperts:
    """A checkpoint folder, whose networks are read when they are needed; safetensors only."""
    return WanOfExperts(boundary=boundary_of(folder), **parts_of(folder, precision, networks_of(EXPERTS)))


def boundary_of(folder: Path) -> float:
    """The share of the schedule from which a step has much noise."""
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    return float(index["boundary_ratio"])


def networks_of(stages: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Those that denoise."""
    return [name for names in stages.values() for name in names]


class WanOfExperts(Wan):
    """A loaded checkpoint; see `families.base.FamilyModel` for the contract of each method."""

    denoise_stages: ClassVar = EXPERTS
    blocks: ClassVar = {**Wan.blocks, "transformer_2": transformer_blocks}
    low_share: ClassVar = 2 / 3  # of what guidance is beyond 1, with little noise: 3 where it is 4, as published

    def __init__(self, *, boundary: float, **parts: object) -> None:
        """`boundary`: as `boundary_of`; `parts`: those of `Wan` with a second transformer."""
        super().__init__(**parts)
        self.boundary = boundary

    def prepare(self, request: GenerationRequest, plan: Plan, conditioning: Conditioning) -> Tensor:
        latents = super().prepare(request, plan, conditioning)
        least = self.boundary * self._stepping.config.num_train_timesteps
        self._noisy_steps = sum(timestep >= least for timestep in self._stepping.timesteps.tolist())
        return latents

    def denoise_stage(self, index: int) -> str:
        return HIGH if index < self._noisy_steps else LOW

    def _scale(self, request: GenerationRequest, index: int) -> float:
        beyond = request.guidance_scale - 1
        return 1 + beyond * (1.0 if self.denoise_stage(index) == HIGH else self.low_share)
