"""Wan from pictures without its weights: what the dry run follows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

from i2v.families.skeletons import Configs, build
from i2v.families.wan import skeleton as wan
from i2v.families.wan.skeleton import REPEATED
from i2v.families.wan_i2v.model import WanFromPictures
from i2v.families.wan_i2v.pictures import up_to_what_is_read

__all__ = ("CONFIGS", "CONFIGURED", "REPEATED", "skeleton")

CONFIGS = Path(__file__).with_name("configs")
CONFIGURED = (*wan.CONFIGURED, "image_encoder")


def skeleton(configs: Configs, dtype: torch.dtype, prompt_tokens: int) -> WanFromPictures:
    """The model that `configs` describe, in `dtype`; every sentence has `prompt_tokens` tokens."""
    return WanFromPictures(**parts(configs, dtype, prompt_tokens))


def parts(configs: Configs, dtype: torch.dtype, prompt_tokens: int) -> dict[str, Any]:
    """What a model is made of that sees pictures."""
    config = CLIPVisionConfig(**configs["image_encoder"])
    encoder = build(lambda: up_to_what_is_read(CLIPVisionModel._from_config(config, dtype=dtype)), dtype)
    side = config.image_size
    processor = CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    return {"image_processor": processor, **wan.parts(configs, dtype, prompt_tokens, image_encoder=encoder)}
