"""I2VGen-XL at full size with random weights, made on the card from the family's own configurations; and a small one
of the same shape.

Memory and time do not depend on the values. What diffusers zero-initialises is drawn anew, so that no layer is an
identity and no product is of zeros, which a card computes faster than others.
"""

from __future__ import annotations

import copy
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import DDIMScheduler

from i2v.families.components import Components
from i2v.families.i2vgen_xl.model import I2VGenXL, latent_scale
from i2v.families.i2vgen_xl.skeleton import CONFIGS, CONFIGURED, skeleton
from i2v.families.i2vgen_xl.spec import SPEC
from i2v.families.skeletons import Configs, read_configs
from tests.checkpoints import SCHEDULER, redraw_zeros

_CLIP = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
SMALL: dict[str, dict[str, Any]] = {
    "unet": {
        "block_out_channels": [16, 32],
        "down_block_types": ["CrossAttnDownBlock3D", "DownBlock3D"],
        "up_block_types": ["UpBlock3D", "CrossAttnUpBlock3D"],
        "cross_attention_dim": 32,
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "attention_head_dim": 8,
    },
    "vae": {"block_out_channels": [8, 8, 16, 16], "layers_per_block": 1, "norm_num_groups": 4},
    "text_encoder": {**_CLIP, "vocab_size": 512, "projection_dim": 32},
    "image_encoder": {**_CLIP, "image_size": 32, "patch_size": 8, "projection_dim": 32},
}


class SpreadTokenizer:
    """Every text is `model_max_length` tokens drawn from the text itself, so that two prompts differ."""

    def __init__(self, model_max_length: int, vocabulary: int) -> None:
        self.model_max_length = model_max_length
        self._vocabulary = vocabulary

    def __call__(self, text: str, **_: Any) -> SimpleNamespace:
        drawn = torch.Generator().manual_seed(zlib.crc32(text.encode()))
        return SimpleNamespace(input_ids=torch.randint(self._vocabulary, (1, self.model_max_length), generator=drawn))


def configs_folder(small: bool, temporary: Path) -> Path:
    """The folder of the model's configurations: the family's own, or small ones written to `temporary`."""
    return written_small(read_configs(CONFIGS, CONFIGURED), SMALL, temporary) if small else CONFIGS


def written_small(configs: Configs, small: Mapping[str, Mapping[str, Any]], folder: Path) -> Path:
    """`configs` with the values of `small` in their place, written to `folder` and its name given back."""
    for name, values in configs.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "config.json").write_text(json.dumps({**values, **small[name]}), encoding="utf-8")
    return folder


def random_model(configs: Path, precision: str, device: torch.device, seed: int = 0) -> I2VGenXL:
    """The model that `configs` describe, drawn on `device` and brought to the host."""
    torch.manual_seed(seed)
    read = read_configs(configs, CONFIGURED)
    with torch.device(device):
        model = skeleton(read, getattr(torch, precision), SPEC.max_prompt_tokens)
        for module in model.modules.values():
            redraw_zeros(module)
    for module in model.modules.values():
        module.to("cpu")
    model.tokenizer = SpreadTokenizer(SPEC.max_prompt_tokens, read["text_encoder"]["vocab_size"])
    model.scheduler = DDIMScheduler(**SCHEDULER)
    return model


def in_float32(model: I2VGenXL) -> I2VGenXL:
    """A copy with the same weights, which float32 holds exactly: what both halves' errors are judged against."""
    parts = {name: copy.deepcopy(module).float() for name, module in model.modules.items()}
    return I2VGenXL(
        tokenizer=model.tokenizer,
        feature_extractor=model.feature_extractor,
        scheduler=DDIMScheduler(**SCHEDULER),
        modules=Components.of(parts),
        latent_scale=latent_scale(parts["vae"].config),
        precision=torch.float32,
    )
