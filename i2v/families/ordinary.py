"""What most families have alike: a model class builds on this and says what is its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from i2v.families.base import Conditioning, StepOutput
from i2v.families.components import Components
from i2v.families.guidance import guided, scale_at
from i2v.families.long_clips import LongClips
from i2v.families.schedulers import take_step
from i2v.memory.card import Card
from i2v.messages import Message
from i2v.request import GenerationRequest

PROMPT, NEGATIVE = "prompt", "negative"  # in the conditioning


class OrdinaryModel:
    """Those parts of `families.base.FamilyModel` that are one transformer for all steps, an autoencoder, clips that are
    made at once, and nothing to be told."""

    modules: Components
    denoise_stages: ClassVar[Mapping[str, tuple[str, ...]]] = {"denoise": ("transformer",)}
    decode_components: ClassVar[tuple[str, ...]] = ("vae",)
    decode_stages: ClassVar[tuple[str, ...]] = ()
    longer: ClassVar[LongClips | None] = None
    by_frame: ClassVar[tuple[str, ...]] = ()

    @property
    def transformer(self) -> Any:
        return self.modules["transformer"]

    @property
    def vae(self) -> Any:
        return self.modules["vae"]

    def said(self, request: GenerationRequest, conditioning: Conditioning) -> Sequence[Message]:
        return ()

    def shown(self, request: GenerationRequest, conditioning: Conditioning, latents: Tensor) -> Sequence[Message]:
        return ()

    def denoise_stage(self, index: int) -> str:
        return "denoise"


def velocity_of(answer: Callable[[str], Tensor], scale: float, request: GenerationRequest, index: int) -> Tensor:
    """What the network answers to the prompt at step `index`, in float32; where `scale` is above 1, pushed away from
    what it answers to the negative prompt in a second pass. `answer` is told the sentence by its name."""
    wanted = answer(PROMPT).float()
    if scale <= 1:
        return wanted
    return guided(answer(NEGATIVE).float(), wanted, scale_at(scale, request, index), request.guidance_rescale)


def flow_step(
    card: Card, scheduler: Any, velocity: Tensor, latents: Tensor, *, seed: int, index: int, begun_at: int = 0
) -> StepOutput:
    """Step `index` of a model that answers with a velocity. `begun_at`: the step in which its scheduler began."""
    with card.on_host():
        timestep, sigma = scheduler.timesteps[index - begun_at], scheduler.sigmas[index - begun_at]
    stepped = take_step(scheduler, velocity, timestep, latents, seed=seed, index=index)
    return StepOutput(latents=stepped.prev_sample, predicted=latents - sigma * velocity)


def mean_and_std(vae: nn.Module, like: Tensor) -> tuple[Tensor, Tensor]:
    """How the latents (1, C, f, h, w) of an autoencoder that knows it are spread, by channel, where `like` is."""
    known = (getattr(vae, name).view(1, -1, 1, 1, 1) for name in ("latents_mean", "latents_std"))
    mean, std = (one.to(like.device, torch.float32) for one in known)
    return mean, std
