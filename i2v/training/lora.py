"""The LoRA that is trained: fresh on a network, its numbers by name, and as a file for the shelf."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import peft
import torch
from peft.helpers import disable_input_dtype_casting
from safetensors.torch import save_file
from torch import Tensor, nn

from i2v.families.adapters import make_adaptable, take_off
from i2v.memory.card import Card
from i2v.training.draws import generator
from i2v.whole_file import whole_file

ADAPTER = "trained"

__all__ = ["ADAPTER", "disable_input_dtype_casting", "put_fresh", "save_lora", "take_off", "trained_parameters"]


def put_fresh(network: nn.Module, targets: str, rank: int, seed: int) -> None:
    """Put a LoRA of this `rank` on those layers of `network` that the expression `targets` names; it changes nothing
    until it is trained. Its numbers are float32 whatever the network's are, and the same for the same seed."""
    make_adaptable(network)
    config = peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=targets)
    # Without contents at first: peft would draw them from the process's own random state, in the network's precision.
    with Card.on_host():
        peft.inject_adapter_in_model(config, network, ADAPTER, low_cpu_mem_usage=True)
    network._hf_peft_config_loaded = True
    for number, (name, table) in enumerate(_places(network)):
        empty = table["weight"]
        matrix = torch.zeros(empty.shape, dtype=torch.float32)
        if ".lora_A." in name:  # as peft begins: A at random, B nothing, so that their product is nothing
            nn.init.kaiming_uniform_(matrix, a=math.sqrt(5), generator=generator(seed, "matrix", number))
        table["weight"] = nn.Parameter(matrix)


def trained_parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    """The LoRA's matrices by the name of their layer and part, "<layer>.lora_A"; from now on they take gradients, and
    nothing else does."""
    network.requires_grad_(False)
    ending = f".{ADAPTER}.weight"
    found = {
        name.removesuffix(ending): parameter
        for name, parameter in network.named_parameters()
        if name.endswith(ending) and ".lora_" in name
    }
    for parameter in found.values():
        parameter.requires_grad_(True)
    return found


def save_lora(
    file: Path, tensors: Mapping[str, Tensor], component: str, metadata: Mapping[str, object], dtype: torch.dtype
) -> None:
    """Write a LoRA's matrices, named as `trained_parameters` does, under the names that diffusers gives them, whole or
    not at all. Their scale is 1. Raises OSError."""
    named = {f"{component}.{name}.weight": tensor.detach().to(dtype).contiguous() for name, tensor in tensors.items()}
    written = {name: value if isinstance(value, str) else json.dumps(value) for name, value in metadata.items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(file) as part:
        save_file(named, part, {"format": "pt", **written})


def _places(network: nn.Module) -> list[tuple[str, dict[str, nn.Parameter | None]]]:
    """Every matrix of the LoRA, by its layer's name and the table in which it is found as "weight"."""
    return [
        (name, layer._parameters)
        for name, layer in network.named_modules()
        if name.endswith(f".{ADAPTER}") and ".lora_" in name and layer._parameters.get("weight") is not None
    ]
