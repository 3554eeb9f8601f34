"""nano without its weights: what the dry run follows."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import DDIMScheduler, UNet3DConditionModel
from torch.utils._pytree import register_dataclass
from transformers import CLIPTextConfig, CLIPTextModel

from i2v.families.nano.finder import Finder
from i2v.families.nano.model import Nano
from i2v.families.nano.place import Place, Wish
from i2v.families.nano.reader import Reader
from i2v.families.nano.splat import Scene
from i2v.families.nano.view import View
from i2v.families.nano.warp import MotionDecoder, Refined
from i2v.families.skeletons import Configs, FixedLengthTokenizer, build

CONFIGS = Path(__file__).resolve().parents[2] / "assets/nano"
CONFIGURED = ("text_encoder", "unet")
REPEATED = ((MotionDecoder, "refine"), (MotionDecoder, "render"))  # the same under every plan
for handed_on in (Refined, Scene, View, Wish, Place):
    register_dataclass(handed_on)  # so that their tensors are seen where these two hand them on


def skeleton(configs: Configs, dtype: torch.dtype, prompt_tokens: int) -> Nano:
    """The model that `configs` describe, in `dtype`; every prompt has `prompt_tokens` tokens."""
    return Nano(
        tokenizer=FixedLengthTokenizer(prompt_tokens),
        text_encoder=build(
            lambda: CLIPTextModel._from_config(CLIPTextConfig(**configs["text_encoder"]), dtype=dtype), dtype
        ),
        reader=build(
            lambda: Reader(configs["text_encoder"]["hidden_size"], configs["text_encoder"]["vocab_size"]), dtype
        ),
        finder=build(Finder, dtype),
        unet=build(lambda: UNet3DConditionModel.from_config(configs["unet"]), dtype),
        scheduler=DDIMScheduler(),
    )
