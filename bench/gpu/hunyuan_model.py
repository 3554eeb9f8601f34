"""HunyuanVideo at full size with random weights, made on the card from the family's own configurations; and a small one
of the same shape. See `models`: memory and time do not depend on the values, and no parameter is left at zero."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE

from bench.gpu.models import SpreadTokenizer, written_small
from i2v.families.hunyuan_video.model import HunyuanVideo
from i2v.families.hunyuan_video.skeleton import CONFIGS, CONFIGURED, skeleton
from i2v.families.hunyuan_video.spec import SPEC
from i2v.families.skeletons import read_configs
from tests.checkpoints import redraw_zeros

SHIFT = 7.0  # of the published checkpoint's scheduler

SMALL: dict[str, dict[str, Any]] = {
    "text_encoder": {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 512,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    },
    "text_encoder_2": {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "projection_dim": 16,
        "vocab_size": 512,
    },
    "transformer": {
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "num_layers": 2,
        "num_single_layers": 2,
        "num_refiner_layers": 1,
        "text_embed_dim": 32,
        "pooled_projection_dim": 16,
        "rope_axes_dim": [4, 6, 6],
    },
    "vae": {"block_out_channels": [8, 8, 8, 8], "layers_per_block": 1, "norm_num_groups": 4},
}


def hunyuan_configs(small: bool, temporary: Path) -> Path:
    """As `models.configs_folder`."""
    return written_small(read_configs(CONFIGS, CONFIGURED), SMALL, temporary) if small else CONFIGS


def random_hunyuan(configs: Path, precision: str, device: torch.device, seed: int = 0) -> HunyuanVideo:
    """The model that `configs` describe, drawn on `device` and brought to the host. Every sentence has as many tokens
    as the model reads at most."""
    torch.manual_seed(seed)
    read = read_configs(configs, CONFIGURED)
    with torch.device(device):
        model = skeleton(read, getattr(torch, precision), SPEC.max_prompt_tokens)
        for module in model.modules.values():
            redraw_zeros(module)
    for module in model.modules.values():
        module.to("cpu")
    sentence = DEFAULT_PROMPT_TEMPLATE["crop_start"] + SPEC.max_prompt_tokens
    model.tokenizer = SpreadTokenizer(sentence, read["text_encoder"]["vocab_size"])
    pooled = read["text_encoder_2"]
    model.tokenizer_2 = SpreadTokenizer(pooled["max_position_embeddings"], pooled["vocab_size"])
    model.scheduler = FlowMatchEulerDiscreteScheduler(shift=SHIFT)
    return model
