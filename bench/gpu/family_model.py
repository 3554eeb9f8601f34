"""Any family at full size with random weights, from its own configurations. See `models`: memory and time do not depend
on the values, and no parameter is left at zero."""

from __future__ import annotations

import importlib
from pathlib import Path

import torch
from accelerate import init_empty_weights
from torch import nn
from transformers import PreTrainedModel

from i2v.families import SPECS
from i2v.families.base import FamilyModel
from i2v.families.skeletons import read_configs

SPREAD = 0.02


def random_family(family: str, folder: Path | None, precision: str, device: torch.device, seed: int = 0) -> FamilyModel:
    """The family's model, drawn on `device` tensor by tensor and kept on the host, since the largest are too large for
    the card; as `folder` describes it, or the family's own configurations. Every sentence has as many tokens as the
    model reads at most."""
    torch.manual_seed(seed)
    skeleton = importlib.import_module(f"i2v.families.{family}.skeleton")
    configs = read_configs(folder or skeleton.CONFIGS, skeleton.CONFIGURED, SPECS[family].optional)
    with init_empty_weights(include_buffers=False):
        model = skeleton.skeleton(configs, getattr(torch, precision), SPECS[family].max_prompt_tokens)
    for module in model.modules.values():
        draw(module, device)
    return model


def draw(module: nn.Module, device: torch.device) -> None:
    """Contents for every parameter that has none. One that stands in several places is one."""
    if isinstance(module, PreTrainedModel):
        module.tie_weights()  # which creating it without contents undid
    drawn: dict[nn.Parameter, nn.Parameter] = {}
    for owner in module.modules():
        for name, empty in owner.named_parameters(recurse=False):
            if not empty.is_meta:
                continue
            if empty not in drawn:
                values = torch.empty(empty.shape, dtype=empty.dtype, device=device).normal_(std=SPREAD)
                if empty.ndim == 1 and name == "weight":
                    values += 1.0  # of a norm
                drawn[empty] = nn.Parameter(values.cpu(), requires_grad=False)
            owner.register_parameter(name, drawn[empty])
