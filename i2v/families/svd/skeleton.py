"""Stable Video Diffusion without its weights: what the dry run follows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLTemporalDecoder,
    EulerDiscreteScheduler,
    ModelMixin,
    UNetSpatioTemporalConditionModel,
)
from diffusers.models.resnet import AlphaBlender
from torch import nn
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from i2v.families.components import Components
from i2v.families.skeletons import Configs, build, on_host
from i2v.families.svd.model import Svd

CONFIGS = Path(__file__).with_name("configs")
CONFIGURED = ("image_encoder", "unet", "vae")
REPEATED = ()


def scheduler() -> EulerDiscreteScheduler:
    """As the published checkpoints have it."""
    return EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        sigma_min=0.002,
        sigma_max=700.0,
        steps_offset=1,
        timestep_spacing="leading",
        timestep_type="continuous",
        use_karras_sigmas=True,
    )


def skeleton(configs: Configs, dtype: torch.dtype, prompt_tokens: int) -> Svd:
    """The model that `configs` describe, in `dtype`; it reads no prompt."""
    vision = CLIPVisionConfig(**configs["image_encoder"])
    return Svd(
        feature_extractor=CLIPImageProcessor(),
        modules=Components.of(
            {
                "image_encoder": build(lambda: CLIPVisionModelWithProjection._from_config(vision, dtype=dtype), dtype),
                "unet": _network(UNetSpatioTemporalConditionModel, configs["unet"], dtype),
                "vae": _network(AutoencoderKLTemporalDecoder, configs["vae"], dtype),
            }
        ),
        precision=dtype,
        scheduler=on_host(scheduler),
    )


def _network(cls: type[ModelMixin], config: Mapping[str, Any], dtype: torch.dtype) -> nn.Module:
    """A network of this class. What blends its layers is made anew: diffusers makes it on the host, wherever new
    tensors are to be."""
    network = build(lambda: cls.from_config(config), dtype)
    for blender in network.modules():
        if isinstance(blender, AlphaBlender):
            blender.mix_factor = nn.Parameter(torch.empty(1, dtype=dtype), requires_grad=False)
    return network
