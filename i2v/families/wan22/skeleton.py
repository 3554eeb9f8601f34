"""Wan 2.2 with two experts without its weights: what the dry run follows."""

from __future__ import annotations

from pathlib import Path

import torch

from i2v.families.skeletons import Configs
from i2v.families.wan import skeleton as wan
from i2v.families.wan22.model import EXPERTS, WanOfExperts, networks_of
from i2v.families.wan22.spec import BOUNDARY

CONFIGS = Path(__file__).with_name("configs")
CONFIGURED = (*wan.CONFIGURED, "transformer_2")
REPEATED = wan.REPEATED


def skeleton(configs: Configs, dtype: torch.dtype, prompt_tokens: int) -> WanOfExperts:
    """The model that `configs` describe, in `dtype`; every sentence has `prompt_tokens` tokens."""
    return WanOfExperts(boundary=BOUNDARY, **wan.parts(configs, dtype, prompt_tokens, networks_of(EXPERTS)))
