"""LTX-Video 0.9.5 and later, dev and distilled: number for number diffusers' `LTXConditionPipeline`, whose modules and
scheduler are used and whose loop is not.

It differs from earlier versions in its schedule, in when it says that frames are, and in that a picture can be the
last frame: its tokens stand behind those of the clip. Both pictures get a little noise in every step.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch
from diffusers.pipelines.ltx.pipeline_ltx_condition import linear_quadratic_schedule
from torch import Tensor

from i2v.families.base import Conditioning
from i2v.families.ltx.model import LAST, PICTURE, Ltx, parts_of
from i2v.families.ltx2.layout import TIME_SCALE, as_tokens
from i2v.families.schedulers import STEP_SEED_OFFSET
from i2v.families.skeletons import on_host
from i2v.memory.card import Card
from i2v.request import GenerationRequest

PICTURE_NOISE = 0.15  # of the pictures, times the square of how noisy the clip is
# The steps of distilled weights, as their authors recommend them without a second pass.
DISTILLED_TIMESTEPS = (1000.0, 993.0, 987.0, 981.0, 975.0, 909.0, 725.0, 0.03)


def load(folder: Path, precision: torch.dtype) -> ConditionedLtx:
    """A checkpoint folder, whose networks are read when they are needed; safetensors only."""
    return ConditionedLtx(**parts_of(folder, precision))


class ConditionedLtx(Ltx):
    """A loaded checkpoint; see `families.base.FamilyModel` for the contract of each method."""

    sentence_tokens: ClassVar = 256
    sentence_filled: ClassVar = False

    def _drawn(self, request: GenerationRequest) -> tuple[Tensor, dict[str, Tensor]]:
        generator = torch.Generator().manual_seed(request.seed)
        clip = torch.randn(self._shape(request), generator=generator)
        names = (PICTURE,) if request.last_image_path is None else (PICTURE, LAST)
        pictures = names if request.task == "i2v" else ()
        return clip, {name: torch.randn(self._shape(request, 1), generator=generator) for name in pictures}

    def _begin(self, request: GenerationRequest) -> None:
        """As many steps without guidance as distilled weights learned are those that they learned."""
        steps = request.num_inference_steps
        timesteps: Sequence[float] = DISTILLED_TIMESTEPS
        if request.guidance_scale > 1 or steps != len(DISTILLED_TIMESTEPS):
            timesteps = on_host(lambda: linear_quadratic_schedule(steps) * 1000).tolist()
        self._stepping.set_timesteps(sigmas=[one / 1000 for one in timesteps], timesteps=timesteps)

    def _held(
        self, card: Card, conditioning: Conditioning, latents: Tensor, index: int, request: GenerationRequest
    ) -> tuple[Tensor, Sequence[Tensor]]:
        if PICTURE not in conditioning:
            return latents, ()
        names = (LAST, PICTURE) if LAST in conditioning else (PICTURE,)
        with card.on_host():
            _, channels, _, height, width = latents.shape
            generator = torch.Generator().manual_seed(request.seed + STEP_SEED_OFFSET * (index + 1))
            noise = torch.randn(1, len(names) * height * width, channels, generator=generator)
            noise = noise * (PICTURE_NOISE * (self._stepping.timesteps[index] / 1000) ** 2)
        noise = card.to_card(noise).transpose(1, 2).unflatten(2, (len(names), height, width))
        pictures = {name: conditioning[name] + noise[:, :, n : n + 1] for n, name in enumerate(names)}
        behind = [as_tokens(pictures[LAST])] if LAST in pictures else []
        return torch.cat([pictures[PICTURE], latents[:, :, 1:]], dim=2), behind

    def _seconds(self, frames: int, behind: int, request: GenerationRequest) -> Tensor:
        """Every latent frame is at the first of its frames; a picture that stands behind at the last of the clip."""
        first = (torch.arange(frames) * TIME_SCALE + 1 - TIME_SCALE).clamp(min=0)
        last = torch.full((behind,), request.num_frames - 1)
        return torch.cat([first, last]).float() * (1.0 / request.fps)
