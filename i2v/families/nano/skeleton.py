"""nano without its weights: what the dry run follows."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import DDIMScheduler, UNet3DConditionModel
from torch.utils._pytree import register_dataclass
from transformers import CLIPTextConfig, CLIPTextModel

from i2v.families.nano.model import Nano
from i2v.families.nano.splat import Refined
from i2v.families.nano.warp import MotionDecoder
from i2v.families.skeletons import Configs, FixedLengthTokenizer, build

CONFIGS = Path(__file__).resolve().parents[2] / "assets/nano"
CONFIGURED = ("text_encoder", "unet")
REPEATED = ((MotionDecoder, "refine"), (MotionDecoder, "render"))  # the same under every plan
register_dataclass(Refined)  # so that its tensors are seen where these two hand it on


def skeleton(configs: Configs, dtype: torch.dtype, prompt_tokens: int) -> Nano:
    """The model that `configs` describe, in `dtype`; every prompt has `prompt_tokens` tokens."""
    return Nano(
        tokenizer=FixedLengthTokenizer(prompt_tokens),
        text_encoder=build(
            lambda: CLIPTextModel._from_config(CLIPTextConfig(**configs["text_encoder"]), dtype=dtype), dtype
        ),
        unet=build(lambda: UNet3DConditionModel.from_config(configs["unet"]), dtype),
        scheduler=DDIMScheduler(),
    )
