"""FramePack without its weights: what the dry run follows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, HunyuanVideoFramepackTransformer3DModel
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE
from torch import nn
from transformers import LlamaConfig, LlamaModel, SiglipImageProcessor, SiglipVisionConfig, SiglipVisionModel
from transformers.initialization import no_init_weights
from transformers.models.siglip.modeling_siglip import SiglipEncoderLayer

from i2v.families.components import Components
from i2v.families.framepack.model import FramePack, without_head
from i2v.families.hunyuan_video import skeleton as hunyuan_video
from i2v.families.hunyuan_video.prompts import up_to_the_layer_that_is_read
from i2v.families.skeletons import Configs, FixedLengthTokenizer, build, on_host

CONFIGS = Path(__file__).with_name("configs")
CONFIGURED = (*hunyuan_video.CONFIGURED, "image_encoder")
REPEATED = (*hunyuan_video.REPEATED, (SiglipEncoderLayer, "forward"))


def skeleton(configs: Configs, dtype: torch.dtype, prompt_tokens: int) -> FramePack:
    """The model that `configs` describe, in `dtype`; every sentence has `prompt_tokens` tokens."""
    return FramePack(**parts(configs, dtype, prompt_tokens))


def parts(configs: Configs, dtype: torch.dtype, prompt_tokens: int) -> dict[str, Any]:
    """What a model is made of."""
    text = build(lambda: LlamaModel._from_config(LlamaConfig(**configs["text_encoder"]), dtype=dtype), dtype)
    up_to_the_layer_that_is_read(text)
    sees = SiglipVisionConfig(**configs["image_encoder"])
    side = sees.image_size

    def encoder() -> nn.Module:
        with no_init_weights():  # which looks at the values that it draws
            module = SiglipVisionModel._from_config(sees, dtype=dtype)
        without_head(module)
        return module

    networks = hunyuan_video.networks(configs, dtype, HunyuanVideoFramepackTransformer3DModel)
    return {
        "tokenizer": FixedLengthTokenizer(DEFAULT_PROMPT_TEMPLATE["crop_start"] + prompt_tokens),
        "tokenizer_2": FixedLengthTokenizer(configs["text_encoder_2"]["max_position_embeddings"]),
        "feature_extractor": SiglipImageProcessor(size={"height": side, "width": side}),
        "modules": Components.of({"text_encoder": text, **networks, "image_encoder": build(encoder, dtype)}),
        "transformer_config": configs["transformer"],
        "precision": dtype,
        "scheduler": on_host(FlowMatchEulerDiscreteScheduler),
    }
