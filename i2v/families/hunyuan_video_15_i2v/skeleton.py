"""HunyuanVideo-1.5 I2V without its weights: what the dry run follows."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import SiglipVisionConfig, SiglipVisionModel
from transformers.initialization import no_init_weights
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.siglip.modeling_siglip import SiglipEncoderLayer

from i2v.families.hunyuan_video_15 import skeleton as from_a_sentence
from i2v.families.hunyuan_video_15_i2v.model import HunyuanVideo15FromPicture, up_to_what_is_read
from i2v.families.skeletons import Configs, build

CONFIGS = Path(__file__).with_name("configs")
CONFIGURED = (*from_a_sentence.CONFIGURED, "image_encoder")
REPEATED = (*from_a_sentence.REPEATED, (SiglipEncoderLayer, "forward"))


def skeleton(configs: Configs, dtype: torch.dtype, prompt_tokens: int) -> HunyuanVideo15FromPicture:
    """The model that `configs` describe, in `dtype`; every sentence has `prompt_tokens` tokens."""
    config = SiglipVisionConfig(**configs["image_encoder"])
    with no_init_weights():  # they would look at values, which there are none of
        encoder = build(lambda: SiglipVisionModel._from_config(config, dtype=dtype), dtype)
    up_to_what_is_read(encoder)
    side = {"height": config.image_size, "width": config.image_size}
    parts = from_a_sentence.parts(configs, dtype, prompt_tokens, image_encoder=encoder)
    return HunyuanVideo15FromPicture(feature_extractor=SiglipImageProcessorPil(size=side), **parts)
