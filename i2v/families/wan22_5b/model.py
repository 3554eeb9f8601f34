"""The small Wan 2.2, from a sentence or from a picture: number for number diffusers' `WanPipeline` and
`WanImageToVideoPipeline` with `expand_timesteps`. Its autoencoder makes one latent of 16 x 16 pixels. A picture is the
first latent frame and stays so: that frame's timestep is 0 in every step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from i2v.families.base import Conditioning, Inputs, Stage, StepOutput
from i2v.families.wan.model import Wan, parts_of
from i2v.families.wan22_5b.colours import LATENT_TO_RGB, LATENT_TO_RGB_OFFSET
from i2v.families.wan_i2v.pictures import FIRST, latents_of
from i2v.memory.card import Card
from i2v.plan import Plan
from i2v.request import GenerationRequest

FIRST_LATENTS = "first_latents"  # in the conditioning


def load(folder: Path, precision: torch.dtype) -> SmallWan:
    """A checkpoint folder, whose networks are read when they are needed; safetensors only."""
    return SmallWan(**parts_of(folder, precision))


class SmallWan(Wan):
    """A loaded checkpoint; see `families.base.FamilyModel` for the contract of each method."""

    latent_to_rgb: ClassVar = (LATENT_TO_RGB, LATENT_TO_RGB_OFFSET)
    space_scale: ClassVar = 16

    def encode_stages(self, request: GenerationRequest, inputs: Inputs, plan: Plan) -> Sequence[Stage]:
        def latents(card: Card, conditioning: Conditioning) -> None:
            mean, std = self._statistics(card)
            size, pictures = (1, request.height, request.width), {FIRST: inputs.first}
            made = latents_of(card, self.vae, size, pictures, plan.decode_rows)
            conditioning[FIRST_LATENTS] = (made - mean) / std

        stages = super().encode_stages(request, inputs, plan)
        return [*stages, Stage("latents", ("vae",), latents, (), sees=("image",))] if request.task == "i2v" else stages

    def prepare(self, request: GenerationRequest, plan: Plan, conditioning: Conditioning) -> Tensor:
        latents = super().prepare(request, plan, conditioning)
        self._is_given = FIRST_LATENTS in conditioning
        return _with_first(latents, conditioning)

    def denoise_step(
        self,
        card: Card,
        conditioning: Conditioning,
        latents: Tensor,
        index: int,
        request: GenerationRequest,
        plan: Plan,
    ) -> StepOutput:
        output = super().denoise_step(card, conditioning, latents, index, request, plan)
        kept = (_with_first(one, conditioning) for one in (output.latents, output.predicted))
        return replace(output, **dict(zip(("latents", "predicted"), kept, strict=True)))

    def _timestep(self, card: Card, index: int) -> Tensor:
        timestep = super()._timestep(card, index)
        return torch.cat([torch.zeros_like(timestep), timestep]) if self._is_given else timestep


def _with_first(latents: Tensor, conditioning: Conditioning) -> Tensor:
    """The same tensor, its first frame the picture's where there is one."""
    if FIRST_LATENTS in conditioning:
        latents[:, :, :1] = conditioning[FIRST_LATENTS]
    return latents
