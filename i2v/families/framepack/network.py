"""FramePack's transformer: diffusers' layers in its order, with what a section looks back at before its own tokens.

diffusers' own forward cuts the text by the sum of a mask, for which a card would have to be waited for in every step;
here no padding is left to cut off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import HunyuanVideoFramepackTransformer3DModel
from torch import Tensor


@dataclass(frozen=True)
class PlacedLatents:
    """Latents (1, C, f, h, w), and at which places (f,) of time they stand."""

    latents: Tensor
    places: Tensor


@dataclass(frozen=True)
class History:
    """What a section is made from beside its own noise: latents as they are, at half the size and at a quarter."""

    clean: PlacedLatents
    half: PlacedLatents
    quarter: PlacedLatents


@dataclass(frozen=True)
class Conditions:
    """What the network is told beside latents: (1, T, D) of the sentence without padding, (1, D) of all of it, and
    (1, T', D) of the picture."""

    words: Tensor
    pooled: Tensor
    picture: Tensor


def velocity(
    network: HunyuanVideoFramepackTransformer3DModel,
    own: PlacedLatents,
    history: History,
    said: Conditions,
    timestep: Tensor,
    guidance: Tensor | None,
) -> Tensor:
    """(1, C, f, h, w) of the section `own`."""
    frames, height, width = own.latents.shape[2:]
    patch, patch_frames = network.config.patch_size, network.config.patch_size_t
    grid = frames // patch_frames, height // patch, width // patch
    tokens, rotary = _packed(network, own, history)
    modulation, _ = network.time_text_embed(timestep, said.pooled, guidance)
    mask = torch.ones_like(said.words[..., 0])
    words = network.context_embedder(said.words, timestep, mask)
    words = torch.cat([network.image_projection(said.picture), words], dim=1)
    for block in (*network.transformer_blocks, *network.single_transformer_blocks):
        tokens, words = block(tokens, words, modulation, None, rotary)
    tokens = tokens[:, -grid[0] * grid[1] * grid[2] :]
    tokens = network.proj_out(network.norm_out(tokens, modulation))
    tokens = tokens.unflatten(2, (-1, patch_frames, patch, patch)).unflatten(1, grid)
    return tokens.permute(0, 4, 1, 5, 2, 6, 3, 7).flatten(6, 7).flatten(4, 5).flatten(2, 3)


def _packed(
    network: HunyuanVideoFramepackTransformer3DModel, own: PlacedLatents, history: History
) -> tuple[Tensor, Sequence[Tensor]]:
    """All tokens, the section's own last, and by what each is turned."""
    height, width = own.latents.shape[3:]

    def turns(piece: PlacedLatents) -> Sequence[Tensor]:
        return network.rope(piece.places, height, width, device=own.latents.device)

    pieces = history.clean, history.half, history.quarter
    embedded = network.clean_x_embedder(*(piece.latents for piece in pieces))
    patch = network.config.patch_size
    return network._pack_history_states(
        network.x_embedder(own.latents), *embedded, *map(turns, (own, *pieces)), height // patch, width // patch
    )
