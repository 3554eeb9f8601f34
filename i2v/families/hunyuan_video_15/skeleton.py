"""HunyuanVideo-1.5 without its weights: what the dry run follows. Every sentence is as long as one may be, and holds as
much text in quotes as is read."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import AutoencoderKLHunyuanVideo15, FlowMatchEulerDiscreteScheduler, HunyuanVideo15Transformer3DModel
from torch import nn
from transformers import Qwen2_5_VLTextConfig, Qwen2_5_VLTextModel, T5Config, T5EncoderModel
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLDecoderLayer
from transformers.models.t5.modeling_t5 import T5Block

from i2v.families.components import Components
from i2v.families.hunyuan_video_15.model import HunyuanVideo15
from i2v.families.hunyuan_video_15.prompts import BEGIN, MAX_GLYPHS, up_to_the_layer_that_is_read
from i2v.families.skeletons import Configs, FixedLengthTokenizer, build, on_host

CONFIGS = Path(__file__).with_name("configs")
CONFIGURED = ("text_encoder", "text_encoder_2", "transformer", "vae")
REPEATED = ((Qwen2_5_VLDecoderLayer, "forward"), (T5Block, "forward"))


class ConversationTokenizer(FixedLengthTokenizer):
    """Every conversation has so many tokens."""

    def apply_chat_template(self, _talk: object, **_: object) -> SimpleNamespace:
        return self("")


def skeleton(configs: Configs, dtype: torch.dtype, prompt_tokens: int) -> HunyuanVideo15:
    """The model that `configs` describe, in `dtype`; every sentence has `prompt_tokens` tokens."""
    return HunyuanVideo15(**parts(configs, dtype, prompt_tokens))


def parts(configs: Configs, dtype: torch.dtype, prompt_tokens: int, **others: nn.Module) -> dict[str, Any]:
    """What a model is made of; see `hunyuan_video_15.model.parts_of`."""
    qwen, byt5 = Qwen2_5_VLTextConfig(**configs["text_encoder"]), T5Config(**configs["text_encoder_2"])
    text = build(lambda: Qwen2_5_VLTextModel._from_config(qwen, dtype=dtype), dtype)
    up_to_the_layer_that_is_read(text)
    return {
        "tokenizer": ConversationTokenizer(BEGIN + prompt_tokens),
        "tokenizer_2": FixedLengthTokenizer(MAX_GLYPHS),
        "modules": Components.of(
            {
                "text_encoder": text,
                "text_encoder_2": build(lambda: T5EncoderModel._from_config(byt5, dtype=dtype), dtype),
                **others,
                "transformer": build(
                    lambda: HunyuanVideo15Transformer3DModel.from_config(configs["transformer"]), dtype
                ),
                "vae": build(lambda: AutoencoderKLHunyuanVideo15.from_config(configs["vae"]), dtype),
            }
        ),
        "transformer_config": configs["transformer"],
        "precision": dtype,
        "scheduler": on_host(partial(FlowMatchEulerDiscreteScheduler, shift=5.0)),
        "in_quotes": lambda _sentence: "text",
    }
