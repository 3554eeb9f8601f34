"""HunyuanVideo I2V without its weights: what the dry run follows."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from transformers import CLIPImageProcessor, LlavaConfig, LlavaModel

from i2v.families.components import Components
from i2v.families.hunyuan_video.skeleton import CONFIGURED, REPEATED, networks
from i2v.families.hunyuan_video_i2v.model import HunyuanVideoFromPicture
from i2v.families.hunyuan_video_i2v.prompts import TEMPLATE_TOKENS, up_to_what_is_read
from i2v.families.skeletons import Configs, FixedLengthTokenizer, build, on_host

__all__ = ("CONFIGS", "CONFIGURED", "REPEATED", "skeleton")

CONFIGS = Path(__file__).with_name("configs")


class UnmarkedTokenizer(FixedLengthTokenizer):
    """None of its tokens is one of the template's marks, as in a sentence so long that its end was cut off."""

    def convert_tokens_to_ids(self, _token: str) -> int:
        return -1


def skeleton(configs: Configs, dtype: torch.dtype, prompt_tokens: int) -> HunyuanVideoFromPicture:
    """The model that `configs` describe, in `dtype`; every sentence has `prompt_tokens` tokens."""
    llava = LlavaConfig(**configs["text_encoder"])
    text = build(lambda: LlavaModel._from_config(llava, dtype=dtype), dtype)
    up_to_what_is_read(text)
    side = llava.vision_config.image_size
    return HunyuanVideoFromPicture(
        tokenizer=UnmarkedTokenizer(TEMPLATE_TOKENS + prompt_tokens),
        tokenizer_2=FixedLengthTokenizer(configs["text_encoder_2"]["max_position_embeddings"]),
        image_processor=CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side}),
        modules=Components.of({"text_encoder": text, **networks(configs, dtype)}),
        transformer_config=configs["transformer"],
        precision=dtype,
        scheduler=on_host(FlowMatchEulerDiscreteScheduler),
    )
