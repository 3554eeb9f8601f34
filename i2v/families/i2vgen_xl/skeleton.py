"""I2VGen-XL without its weights: what the dry run follows."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, I2VGenXLUNet
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from i2v.families.components import Components
from i2v.families.i2vgen_xl.model import I2VGenXL, latent_scale
from i2v.families.skeletons import Configs, FixedLengthTokenizer, build

CONFIGS = Path(__file__).with_name("configs")
CONFIGURED = ("text_encoder", "image_encoder", "unet", "vae")
REPEATED = ()


def skeleton(configs: Configs, dtype: torch.dtype, prompt_tokens: int) -> I2VGenXL:
    """The model that `configs` describe, in `dtype`; every prompt has `prompt_tokens` tokens."""
    text, vision = CLIPTextConfig(**configs["text_encoder"]), CLIPVisionConfig(**configs["image_encoder"])
    side = vision.image_size
    return I2VGenXL(
        tokenizer=FixedLengthTokenizer(prompt_tokens),
        feature_extractor=CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side}),
        modules=Components.of(
            {
                "text_encoder": build(lambda: CLIPTextModel._from_config(text, dtype=dtype), dtype),
                "image_encoder": build(lambda: CLIPVisionModelWithProjection._from_config(vision, dtype=dtype), dtype),
                "unet": build(lambda: I2VGenXLUNet.from_config(configs["unet"]), dtype),
                "vae": build(lambda: AutoencoderKL.from_config(configs["vae"]), dtype),
            }
        ),
        latent_scale=latent_scale(configs["vae"]),
        precision=dtype,
        scheduler=DDIMScheduler(),
    )
