"""Made-up LoRA files: random matrices for the layers of a network, under the names that trainers give them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

DIFFUSERS = "transformer.{layer}.lora_{part}.weight"
MUSUBI = "diffusion_model.{layer}.lora_{part}.weight"


def pairs(shapes: Mapping[str, tuple[int, int]], rank: int, seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """A and B of each layer, whose weight has the shape (out, in)."""
    drawn = torch.Generator().manual_seed(seed)
    return {
        layer: (torch.randn(rank, into, generator=drawn) / into**0.5, torch.randn(out, rank, generator=drawn) / 2)
        for layer, (out, into) in shapes.items()
    }


def attention_of(network: nn.Module) -> dict[str, tuple[int, int]]:
    """The shape of every linear layer of its attention."""
    linear = ((name, one) for name, one in network.named_modules() if isinstance(one, nn.Linear))
    return {name: tuple(one.weight.shape) for name, one in linear if ".attn." in name}


def named(drawn: Mapping[str, tuple[Tensor, Tensor]], names: str = DIFFUSERS) -> dict[str, Tensor]:
    """The tensors of a file by their names."""
    return {
        names.format(layer=layer, part=part): one
        for layer, pair in drawn.items()
        for part, one in zip("AB", pair, strict=True)
    }


def kohya(drawn: Mapping[str, tuple[Tensor, Tensor]], alpha: float) -> dict[str, Tensor]:
    """As trainers of the kohya line name them, the scale beside."""
    tensors = {}
    for layer, (down, up) in drawn.items():
        start = f"lora_unet_{layer.replace('.', '_')}"
        tensors |= {f"{start}.lora_down.weight": down, f"{start}.lora_up.weight": up}
        tensors[f"{start}.alpha"] = torch.tensor(alpha)
    return tensors


def lora_file(
    path: Path,
    network: nn.Module,
    *,
    rank: int = 4,
    seed: int = 0,
    change: Callable[[dict[str, Tensor]], object] = lambda tensors: None,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """A LoRA in diffusers' format for all attention of `network`, its tensors changed by `change`."""
    tensors = named(pairs(attention_of(network), rank, seed))
    change(tensors)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, dict(metadata or {}))
    return path
