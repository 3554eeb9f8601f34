"""Wan 2.2 from pictures with two experts without its weights: what the dry run follows."""

from __future__ import annotations

from pathlib import Path

import torch

from i2v.families.skeletons import Configs
from i2v.families.wan.skeleton import parts
from i2v.families.wan22.model import EXPERTS, networks_of
from i2v.families.wan22.skeleton import CONFIGURED, REPEATED
from i2v.families.wan22_i2v.model import WanOfExpertsFromPictures
from i2v.families.wan22_i2v.spec import BOUNDARY

__all__ = ("CONFIGS", "CONFIGURED", "REPEATED", "skeleton")

CONFIGS = Path(__file__).with_name("configs")


def skeleton(configs: Configs, dtype: torch.dtype, prompt_tokens: int) -> WanOfExpertsFromPictures:
    """The model that `configs` describe, in `dtype`; every sentence has `prompt_tokens` tokens."""
    experts = parts(configs, dtype, prompt_tokens, networks_of(EXPERTS))
    return WanOfExpertsFromPictures(boundary=BOUNDARY, **experts)
