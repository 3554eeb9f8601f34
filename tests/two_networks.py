"""A family whose denoising has two parts with a network each, as models with an expert for high noise and one for low
have: nano, whose network is there twice. So it makes what nano makes, and holds one network less than it has."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
from diffusers import UNet3DConditionModel
from torch import Tensor, nn

from i2v.families import SPECS
from i2v.families.base import Conditioning, StepOutput
from i2v.families.blocks import unet_blocks
from i2v.families.components import Components
from i2v.families.nano import model as nano
from i2v.families.nano import skeleton as nano_skeleton
from i2v.families.nano.spec import SPEC as NANO
from i2v.families.skeletons import Configs
from i2v.memory.card import Card
from i2v.plan import Plan
from i2v.request import GenerationRequest

NAME = "two_networks"
HIGH, LOW = "denoise.high", "denoise.low"
PARTS = {HIGH: ("unet",), LOW: ("unet_2",)}


def steps_of(steps: int) -> dict[str, int]:
    """The odd step of the two parts is the first one's."""
    return {HIGH: (steps + 1) // 2, LOW: steps // 2}


SPEC = replace(
    NANO, name=NAME, title="Two networks", denoise_steps=steps_of,
    components={**NANO.components, "unet_2": NANO.components["unet"]},
)  # fmt: skip


class TwoNetworks(nano.Nano):
    denoise_stages: ClassVar = PARTS
    blocks: ClassVar = {**nano.Nano.blocks, "unet_2": unet_blocks}

    def __init__(self, one: nano.Nano, second: nn.Module) -> None:
        super().__init__(
            tokenizer=one.tokenizer, text_encoder=one.text_encoder, reader=one.reader, finder=one.finder,
            unet=one.unet, scheduler=one.scheduler,
        )  # fmt: skip
        self.modules = Components.of({**self.modules, "unet_2": second.eval().requires_grad_(False)})

    def denoise_stage(self, index: int) -> str:
        return HIGH if index < steps_of(len(self._timesteps))[HIGH] else LOW

    def denoise_step(
        self,
        card: Card,
        conditioning: Conditioning,
        latents: Tensor,
        index: int,
        request: GenerationRequest,
        plan: Plan,
    ) -> StepOutput:
        self.unet = self.modules[PARTS[self.denoise_stage(index)][0]]
        return super().denoise_step(card, conditioning, latents, index, request, plan)


def load(folder: Path, precision: torch.dtype) -> TwoNetworks:
    second = UNet3DConditionModel.from_pretrained(folder / "unet_2", torch_dtype=precision, local_files_only=True)
    return TwoNetworks(nano.load(folder, precision), second)


def skeleton(configs: Configs, dtype: torch.dtype, prompt_tokens: int) -> TwoNetworks:
    one, other = (nano_skeleton.skeleton(configs, dtype, prompt_tokens) for _ in PARTS)
    return TwoNetworks(one, other.unet)


def twice(nano_folder: Path, folder: Path) -> Path:
    """The checkpoint in `nano_folder` with its network twice, in `folder`."""
    shutil.copytree(nano_folder, folder)
    shutil.copytree(folder / "unet", folder / "unet_2")
    return folder


def add_family(patch: pytest.MonkeyPatch) -> None:
    """For the time of a test the app has this family."""
    patch.setitem(SPECS, NAME, SPEC)
    known = {name: getattr(nano_skeleton, name) for name in ("CONFIGS", "CONFIGURED", "REPEATED")}
    patch.setitem(sys.modules, f"i2v.families.{NAME}.model", SimpleNamespace(load=load))
    patch.setitem(sys.modules, f"i2v.families.{NAME}.skeleton", SimpleNamespace(skeleton=skeleton, **known))
