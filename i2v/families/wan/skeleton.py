"""Wan without its weights: what the dry run follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanTransformer3DModel
from torch import nn
from transformers import UMT5Config, UMT5EncoderModel
from transformers.models.umt5.modeling_umt5 import UMT5Block

from i2v.families.components import Components
from i2v.families.skeletons import Configs, FixedLengthTokenizer, build, on_host
from i2v.families.wan.model import VAE_PRECISION, Wan

CONFIGS = Path(__file__).with_name("configs")
CONFIGURED = ("text_encoder", "transformer", "vae")
REPEATED = ((UMT5Block, "forward"),)


def skeleton(configs: Configs, dtype: torch.dtype, prompt_tokens: int) -> Wan:
    """The model that `configs` describe, in `dtype`; every sentence has `prompt_tokens` tokens."""
    return Wan(**parts(configs, dtype, prompt_tokens))


def parts(
    configs: Configs,
    dtype: torch.dtype,
    prompt_tokens: int,
    transformers: Sequence[str] = ("transformer",),
    **others: nn.Module,
) -> dict[str, Any]:
    """What a model is made of; see `wan.model.parts_of`."""
    text = UMT5Config(**configs["text_encoder"])
    return {
        "tokenizer": FixedLengthTokenizer(prompt_tokens),
        "modules": Components.of(
            {
                "text_encoder": build(lambda: UMT5EncoderModel._from_config(text, dtype=dtype), dtype),
                **others,
                **{name: transformer(configs[name], dtype) for name in transformers},
                "vae": build(lambda: AutoencoderKLWan.from_config(configs["vae"]), VAE_PRECISION),
            }
        ),
        "precision": dtype,
        "scheduler": on_host(scheduler),
    }


def scheduler() -> UniPCMultistepScheduler:
    """As the published checkpoints have it."""
    return UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)


def transformer(config: Mapping[str, Any], dtype: torch.dtype) -> nn.Module:
    """In `dtype`, but for the layers that diffusers keeps in float32 when it loads them."""
    network = build(lambda: WanTransformer3DModel.from_config(config), dtype)
    for name, one in (*network.named_parameters(), *network.named_buffers()):
        if any(kept in name.split(".") for kept in WanTransformer3DModel._keep_in_fp32_modules):
            one.data = one.data.to(torch.float32)
    return network
