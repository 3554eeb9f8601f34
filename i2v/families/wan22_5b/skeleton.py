"""The small Wan 2.2 without its weights: what the dry run follows."""

from __future__ import annotations

from pathlib import Path

import torch

from i2v.families.skeletons import Configs
from i2v.families.wan.skeleton import CONFIGURED, REPEATED, parts
from i2v.families.wan22_5b.model import SmallWan

__all__ = ("CONFIGS", "CONFIGURED", "REPEATED", "skeleton")

CONFIGS = Path(__file__).with_name("configs")


def skeleton(configs: Configs, dtype: torch.dtype, prompt_tokens: int) -> SmallWan:
    """The model that `configs` describe, in `dtype`; every sentence has `prompt_tokens` tokens."""
    return SmallWan(**parts(configs, dtype, prompt_tokens))
