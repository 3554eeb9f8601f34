"""HunyuanVideo without its weights: what the dry run follows."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLHunyuanVideo,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideoTransformer3DModel,
    ModelMixin,
)
from diffusers.models.autoencoders.autoencoder_kl_hunyuan_video import HunyuanVideoDecoder3D, HunyuanVideoEncoder3D
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, LlamaConfig, LlamaModel
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from i2v.families.components import Components
from i2v.families.hunyuan_video.model import HunyuanVideo
from i2v.families.hunyuan_video.prompts import up_to_the_layer_that_is_read
from i2v.families.skeletons import Configs, FixedLengthTokenizer, build, on_host

CONFIGS = Path(__file__).with_name("configs")
CONFIGURED = ("text_encoder", "text_encoder_2", "transformer", "vae")
REPEATED = tuple((cls, "forward") for cls in (HunyuanVideoDecoder3D, HunyuanVideoEncoder3D, LlamaDecoderLayer))


def skeleton(configs: Configs, dtype: torch.dtype, prompt_tokens: int) -> HunyuanVideo:
    """The model that `configs` describe, in `dtype`; every sentence has `prompt_tokens` tokens."""
    text = build(lambda: LlamaModel._from_config(LlamaConfig(**configs["text_encoder"]), dtype=dtype), dtype)
    up_to_the_layer_that_is_read(text)
    return HunyuanVideo(
        tokenizer=FixedLengthTokenizer(DEFAULT_PROMPT_TEMPLATE["crop_start"] + prompt_tokens),
        tokenizer_2=FixedLengthTokenizer(configs["text_encoder_2"]["max_position_embeddings"]),
        modules=Components.of({"text_encoder": text, **networks(configs, dtype)}),
        transformer_config=configs["transformer"],
        precision=dtype,
        scheduler=on_host(FlowMatchEulerDiscreteScheduler),
    )


def networks(
    configs: Configs, dtype: torch.dtype, transformer: type[ModelMixin] = HunyuanVideoTransformer3DModel
) -> dict[str, nn.Module]:
    """All but the first text encoder."""
    words = CLIPTextConfig(**configs["text_encoder_2"])
    return {
        "text_encoder_2": build(lambda: CLIPTextModel._from_config(words, dtype=dtype), dtype),
        "transformer": build(lambda: transformer.from_config(configs["transformer"]), dtype),
        "vae": build(lambda: AutoencoderKLHunyuanVideo.from_config(configs["vae"]), dtype),
    }
