"""LTX-Video without its weights: what the dry run follows."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLLTXVideo, FlowMatchEulerDiscreteScheduler, LTXVideoTransformer3DModel
from diffusers.models.autoencoders.autoencoder_kl_ltx import LTXVideoResnetBlock3d
from torch import nn
from transformers import T5Config, T5EncoderModel
from transformers.models.t5.modeling_t5 import T5Block

from i2v.families.components import Components
from i2v.families.ltx.model import Ltx
from i2v.families.skeletons import Configs, FixedLengthTokenizer, build, on_host

CONFIGS = Path(__file__).with_name("configs")
CONFIGURED = ("text_encoder", "transformer", "vae")
REPEATED = ((T5Block, "forward"), (LTXVideoResnetBlock3d, "forward"))


def skeleton(configs: Configs, dtype: torch.dtype, prompt_tokens: int) -> Ltx:
    """The model that `configs` describe, in `dtype`; every sentence has `prompt_tokens` tokens."""
    return Ltx(**parts(configs, dtype, prompt_tokens, scheduler))


def parts(configs: Configs, dtype: torch.dtype, prompt_tokens: int, scheduler: Any) -> dict[str, Any]:
    """What a model is made of; see `ltx.model.parts_of`."""
    text, kinds = T5Config(**configs["text_encoder"]), (LTXVideoTransformer3DModel, AutoencoderKLLTXVideo)
    made = zip(("transformer", "vae"), kinds, strict=True)
    modules = {name: build(partial(cls.from_config, configs[name]), dtype) for name, cls in made}
    decoder = modules["vae"].decoder
    if decoder.timestep_scale_multiplier is not None:  # it is made in float32, and loaded as the others
        decoder.timestep_scale_multiplier = nn.Parameter(decoder.timestep_scale_multiplier.to(dtype), False)
    return {
        "tokenizer": FixedLengthTokenizer(prompt_tokens),
        "modules": Components.of(
            {"text_encoder": build(lambda: T5EncoderModel._from_config(text, dtype=dtype), dtype), **modules}
        ),
        "channels": configs["vae"]["latent_channels"],
        "precision": dtype,
        "scheduler": on_host(scheduler),
    }


def scheduler() -> FlowMatchEulerDiscreteScheduler:
    """As the published checkpoints have it."""
    return FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, base_shift=0.95, max_shift=2.05, base_image_seq_len=1024, max_image_seq_len=4096,
        shift_terminal=0.1,
    )  # fmt: skip
