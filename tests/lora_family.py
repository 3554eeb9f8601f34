"""A family that takes LoRAs and is small enough to run: nano, whose network is loaded as a class that they go on."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers import UNet3DConditionModel
from diffusers.loaders import PeftAdapterMixin

from i2v.families import SPECS
from i2v.families.lora_names import LoraNames
from i2v.families.nano import model as nano
from i2v.families.nano import skeleton as nano_skeleton
from i2v.families.nano.spec import SPEC as NANO
from i2v.models import adapters as adapter_files

NAME = "nano_with_loras"
LAYERS = "attentions.<n>.transformer_blocks.<n>.{attn1,attn2}.{to_q,to_k,to_v,to_out.0}"
NAMES = LoraNames(authors=(), diffusers=tuple(f"{part}_blocks.<n>.{LAYERS}" for part in ("down", "up")), stated="nano")
SPEC = replace(NANO, name=NAME, title="Nano with LoRAs", lora_names=NAMES)


class Adaptable(UNet3DConditionModel, PeftAdapterMixin):
    """The same network."""


def load(folder: Path, precision: torch.dtype) -> nano.Nano:
    model = nano.load(folder, precision)
    model.unet.__class__ = Adaptable
    return model


def add_family(patch: pytest.MonkeyPatch) -> None:
    """For the time of a test the app has this family."""
    patch.setitem(SPECS, NAME, SPEC)
    patch.setitem(sys.modules, f"i2v.families.{NAME}.model", SimpleNamespace(load=load))
    patch.setitem(sys.modules, f"i2v.families.{NAME}.skeleton", nano_skeleton)
    adapter_files._read.cache_clear()
