"""Small untrained networks of diffusers' own classes, every parameter of which has an effect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers import HunyuanVideoTransformer3DModel
from torch import Tensor, nn


@dataclass(frozen=True)
class Small:
    """A network, its blocks in the order in which they run, and a pass that depends on a number."""

    network: nn.Module
    blocks: list[nn.Module]
    forward: Callable[[int], Tensor]


def redrawn(network: nn.Module) -> nn.Module:
    """`network` with every parameter that is the same everywhere drawn at random, so that none is without effect."""
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        if parameter.is_floating_point() and parameter.numel() and (parameter == parameter.flatten()[0]).all():
            parameter.data.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return network.eval().requires_grad_(False)


def hunyuan() -> Small:
    torch.manual_seed(0)
    network = HunyuanVideoTransformer3DModel(
        num_attention_heads=4, attention_head_dim=16, in_channels=4, out_channels=4, num_layers=2,
        num_single_layers=3, num_refiner_layers=1, text_embed_dim=24, pooled_projection_dim=12, rope_axes_dim=(4, 6, 6),
    )  # fmt: skip
    redrawn(network)
    latents, text, pooled = torch.randn(1, 4, 3, 8, 12), torch.randn(1, 9, 24), torch.randn(1, 12)

    def forward(number: int) -> Tensor:
        return network(
            hidden_states=latents, timestep=torch.tensor([900 - 100 * number]), encoder_hidden_states=text,
            encoder_attention_mask=torch.ones(1, 9, dtype=torch.int64), pooled_projections=pooled,
            guidance=torch.tensor([6000.0]), return_dict=False,
        )[0]  # fmt: skip

    return Small(network, [*network.transformer_blocks, *network.single_transformer_blocks], forward)


def passes(small: Small) -> list[Tensor]:
    with torch.no_grad():
        return [small.forward(number) for number in range(3)]
