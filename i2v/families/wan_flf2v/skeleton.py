"""Wan between two pictures without its weights: what the dry run follows."""

from __future__ import annotations

from pathlib import Path

import torch

from i2v.families.skeletons import Configs
from i2v.families.wan_flf2v.model import WanBetweenPictures
from i2v.families.wan_i2v.skeleton import CONFIGURED, REPEATED, parts

__all__ = ("CONFIGS", "CONFIGURED", "REPEATED", "skeleton")

CONFIGS = Path(__file__).with_name("configs")


def skeleton(configs: Configs, dtype: torch.dtype, prompt_tokens: int) -> WanBetweenPictures:
    """The model that `configs` describe, in `dtype`; every sentence has `prompt_tokens` tokens."""
    return WanBetweenPictures(**parts(configs, dtype, prompt_tokens))
