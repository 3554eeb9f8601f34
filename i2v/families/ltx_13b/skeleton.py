"""LTX-Video 13B without its weights: what the dry run follows."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from i2v.families.ltx.skeleton import CONFIGURED, REPEATED, parts
from i2v.families.ltx_13b.model import ConditionedLtx
from i2v.families.skeletons import Configs

__all__ = ("CONFIGS", "CONFIGURED", "REPEATED", "skeleton")

CONFIGS = Path(__file__).with_name("configs")


def skeleton(configs: Configs, dtype: torch.dtype, prompt_tokens: int) -> ConditionedLtx:
    """The model that `configs` describe, in `dtype`; every sentence has `prompt_tokens` tokens."""
    return ConditionedLtx(**parts(configs, dtype, prompt_tokens, scheduler))


def scheduler() -> FlowMatchEulerDiscreteScheduler:
    """As the published checkpoints have it."""
    return FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=False)
