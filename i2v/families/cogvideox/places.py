"""How CogVideoX's transformer is told where tokens stand: 2B adds something to each, the others turn queries and
keys."""

from __future__ import annotations

from typing import Any

from diffusers import CogVideoXTransformer3DModel
from diffusers.models.embeddings import get_3d_rotary_pos_embed, get_3d_sincos_pos_embed
from diffusers.pipelines.cogvideo.pipeline_cogvideox import get_resize_crop_region_for_grid
from torch import Tensor

SPACE_SCALE = 8  # pixels of a side that a latent stands for


def without_unread(network: CogVideoXTransformer3DModel) -> None:
    """Take away the places of one size, which `added_places` makes for any."""
    patches = network.patch_embed
    if patches.use_positional_embeddings and not patches.use_learned_positional_embeddings:
        del patches.pos_embedding


def added_places(network: CogVideoXTransformer3DModel, latents: Tensor) -> Tensor | None:
    """(1, N, D) float32, for latents (1, f, C, h, w); None for networks that are told otherwise."""
    config, patches = network.config, network.patch_embed
    if config.use_rotary_positional_embeddings:
        return None
    frames, height, width = latents.shape[1], *(side // config.patch_size for side in latents.shape[3:])
    scales = config.spatial_interpolation_scale, config.temporal_interpolation_scale
    return get_3d_sincos_pos_embed(patches.embed_dim, (width, height), frames, *scales).flatten(0, 1).unsqueeze(0)


def turns_of(config: Any, latents: Tensor) -> tuple[Tensor, Tensor] | None:
    """Cosines and sines, each (N, d) float32, for latents (1, f, C, h, w); None for networks that turn none."""
    if not config.use_rotary_positional_embeddings:
        return None
    frames, height, width = latents.shape[1], *(side // config.patch_size for side in latents.shape[3:])
    whole = config.sample_height // config.patch_size, config.sample_width // config.patch_size
    if config.patch_size_t is None:  # places are between those of the size that it was trained on
        where = get_resize_crop_region_for_grid((height, width), whole[1], whole[0])
        return get_3d_rotary_pos_embed(config.attention_head_dim, where, (height, width), frames)
    frames = -(-frames // config.patch_size_t)
    return get_3d_rotary_pos_embed(
        config.attention_head_dim, None, (height, width), frames, grid_type="slice", max_size=whole
    )
