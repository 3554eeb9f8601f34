"""LTX-2 without its weights: what the dry run follows."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.models.autoencoders.autoencoder_kl_ltx2 import LTX2VideoResnetBlock3d
from diffusers.pipelines.ltx2.connectors import LTX2TransformerBlock1d
from diffusers.pipelines.ltx2.latent_upsampler import ResBlock as UpsamplerBlock
from diffusers.pipelines.ltx2.vocoder import ResBlock
from torch import nn
from transformers import AutoConfig
from transformers.initialization import no_init_weights
from transformers.models.gemma3.modeling_gemma3 import Gemma3DecoderLayer
from transformers.models.gemma4_unified.modeling_gemma4_unified import Gemma4UnifiedTextDecoderLayer

from i2v.families.components import Components
from i2v.families.ltx2.model import Ltx2
from i2v.families.ltx2.prompts import GEMMAS, without_senses
from i2v.families.ltx2.versions import CONFIGURED, check_version, networks_of
from i2v.families.skeletons import Configs, FixedLengthTokenizer, build, on_host

__all__ = ("CONFIGS", "CONFIGURED", "REPEATED", "skeleton")

CONFIGS = Path(__file__).with_name("configs")
REPEATED = (
    (Gemma3DecoderLayer, "forward"),
    (Gemma4UnifiedTextDecoderLayer, "forward"),
    (LTX2TransformerBlock1d, "forward"),
    (LTX2VideoResnetBlock3d, "forward"),
    (ResBlock, "forward"),
    (UpsamplerBlock, "forward"),
)


def skeleton(configs: Configs, dtype: torch.dtype, prompt_tokens: int) -> Ltx2:
    """The model that `configs` describe, in `dtype`; every sentence has `prompt_tokens` tokens."""
    check_version(configs, "")
    kinds = networks_of(configs, dtype)
    made = {name: build(partial(cls.from_config, configs[name]), own) for name, (cls, own) in kinds.items()}
    return Ltx2(
        tokenizer=FixedLengthTokenizer(prompt_tokens),
        modules=Components.of({"text_encoder": _gemma(configs, dtype), **made}),
        configs=configs,
        precision=dtype,
        scheduler=on_host(scheduler),
    )


def _gemma(configs: Configs, dtype: torch.dtype) -> nn.Module:
    given = dict(configs["text_encoder"])
    kind = given.pop("model_type")
    config = AutoConfig.for_model(kind, **given)
    with no_init_weights():  # those of its other half look at values, which there are none of
        gemma = build(lambda: GEMMAS[kind]._from_config(config, dtype=dtype), dtype)
    without_senses(gemma)
    return gemma


def scheduler() -> FlowMatchEulerDiscreteScheduler:
    """As the published checkpoints have it."""
    return FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, base_shift=0.95, max_shift=2.05, base_image_seq_len=1024, max_image_seq_len=4096,
        shift_terminal=0.1,
    )  # fmt: skip
