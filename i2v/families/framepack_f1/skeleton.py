"""FramePack F1 without its weights: what the dry run follows."""

from __future__ import annotations

import torch

from i2v.families.framepack.skeleton import CONFIGS, CONFIGURED, REPEATED, parts
from i2v.families.framepack_f1.model import FramePackForward
from i2v.families.skeletons import Configs

__all__ = ("CONFIGS", "CONFIGURED", "REPEATED", "skeleton")


def skeleton(configs: Configs, dtype: torch.dtype, prompt_tokens: int) -> FramePackForward:
    """The model that `configs` describe, in `dtype`; every sentence has `prompt_tokens` tokens."""
    return FramePackForward(**parts(configs, dtype, prompt_tokens))
