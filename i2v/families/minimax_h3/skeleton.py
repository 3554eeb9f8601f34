"""MiniMax-H3 without its weights: what the dry run follows."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import torch
from diffusers import (
    AutoencoderKLMiniMaxH3,
    AutoencoderKLMiniMaxH3Audio,
    MiniMaxH3Scheduler,
    MiniMaxH3Transformer3DModel,
)
from diffusers.models.autoencoders.autoencoder_kl_minimax_h3 import (
    MiniMaxH3VideoResnetBlock3d,
    MiniMaxH3VideoTransformerBlock,
    MiniMaxH3VideoViTDecoder3d,
)
from torch import nn
from transformers import Qwen3VLConfig, Qwen3VLModel
from transformers.initialization import no_init_weights
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextDecoderLayer, Qwen3VLVisionBlock

from i2v.families.components import Components
from i2v.families.minimax_h3.model import SOUND_PRECISION, MiniMaxH3, short
from i2v.families.minimax_h3.prompts import LABELS, image_processor, up_to_what_is_read
from i2v.families.skeletons import Configs, build, on_host

CONFIGS = Path(__file__).with_name("configs")
CONFIGURED = ("text_encoder", "transformer", "vae", "audio_vae")
REPEATED = (
    (Qwen3VLTextDecoderLayer, "forward"),
    (Qwen3VLVisionBlock, "forward"),
    (MiniMaxH3VideoTransformerBlock, "forward"),
    (MiniMaxH3VideoViTDecoder3d, "forward"),
    (MiniMaxH3VideoResnetBlock3d, "forward"),
)
LABEL_TOKENS = 6  # of a picture's label, in Qwen's words


class Tokenizer:
    """Every sentence is as long as one may be."""

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens

    def __call__(self, text: str, **_: object) -> SimpleNamespace:
        return SimpleNamespace(input_ids=[0] * (LABEL_TOKENS if text in LABELS else self._tokens))

    def convert_tokens_to_ids(self, _token: str) -> int:
        return 0


def skeleton(configs: Configs, dtype: torch.dtype, prompt_tokens: int) -> MiniMaxH3:
    """The model that `configs` describe, in `dtype`; every sentence has `prompt_tokens` tokens."""
    kinds = {
        "transformer": (MiniMaxH3Transformer3DModel, dtype),
        "vae": (AutoencoderKLMiniMaxH3, dtype),
        "audio_vae": (AutoencoderKLMiniMaxH3Audio, SOUND_PRECISION),
    }
    made = {name: _network(partial(cls.from_config, configs[name]), cls, own) for name, (cls, own) in kinds.items()}
    return MiniMaxH3(
        tokenizer=Tokenizer(prompt_tokens),
        image_processor=image_processor(),
        modules=Components.of({"text_encoder": _qwen(configs, dtype), **made}),
        channels=configs["transformer"]["in_channels"],
        scheduler=on_host(partial(MiniMaxH3Scheduler, shift=12.0)),
        audio_scheduler=on_host(partial(MiniMaxH3Scheduler, shift=3.0)),
    )


def _qwen(configs: Configs, dtype: torch.dtype) -> nn.Module:
    config = short(Qwen3VLConfig(**configs["text_encoder"]))
    with no_init_weights():  # they would look at values, which there are none of
        qwen = build(lambda: Qwen3VLModel._from_config(config, dtype=dtype), dtype)
    up_to_what_is_read(qwen)
    return qwen


def _network(make: partial, cls: type, dtype: torch.dtype) -> nn.Module:
    """In `dtype`, but for the layers that diffusers keeps in float32 when it loads them."""
    network = build(make, dtype)
    for name, one in (*network.named_parameters(), *network.named_buffers()):
        if any(kept in name.split(".") for kept in cls._keep_in_fp32_modules):
            one.data = one.data.to(torch.float32)
    return network
