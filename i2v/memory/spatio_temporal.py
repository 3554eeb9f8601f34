"""Exact chunks of the networks of Stable Video Diffusion, whose layers treat frames first and then pixels over time.

As in `chunking`: what treats every frame alone runs a few frames at a time, what treats every pixel alone a few pixels
at a time, and group norms that look at all of a clip take their statistics first. A residual block over time holds one
clip beside its input: what its first convolution gives is made twice, once for the statistics of the norm after it and
once to go on from, and is never whole. Shapes: F frames, C channels, P = H*W pixels, p of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from diffusers.models.attention import BasicTransformerBlock, TemporalBasicTransformerBlock
from diffusers.models.resnet import (
    Downsample2D,
    ResnetBlock2D,
    SpatioTemporalResBlock,
    TemporalResnetBlock,
    Upsample2D,
)
from torch import Tensor, nn

from i2v.memory.chunking import (
    MOST_ROWS,
    ChunkSizes,
    Forward,
    GroupStatistics,
    around_chunks,
    by_rows,
    chunks,
    frames_like,
    group_norm_coefficients,
    normalised,
    scaled,
)

_PER_FRAME = (ResnetBlock2D, Downsample2D, Upsample2D, BasicTransformerBlock)


@contextlib.contextmanager
def spatio_temporal_chunks(unet: nn.Module, sizes: ChunkSizes) -> Iterator[None]:
    """Run a UNetSpatioTemporalConditionModel in chunks for the time of the `with`. Layers whose size is 0 keep their
    own forward, but for attention over time beyond `MOST_ROWS` pixels."""
    replaced: list[nn.Module] = []
    try:
        for module in unet.modules():
            chunked = _chunked_forward(module, sizes, unet.config.block_out_channels[0])
            if chunked is not None:
                module.forward = around_chunks()(module, chunked)
                replaced.append(module)
        yield
    finally:
        for module in replaced:
            del module.forward


def _chunked_forward(module: nn.Module, sizes: ChunkSizes, width: int) -> Forward | None:
    if sizes.frames and isinstance(module, _PER_FRAME):
        return by_rows(module.forward, sizes.frames)
    if isinstance(module, TemporalBasicTransformerBlock):
        return _by_pixels(module.forward, scaled(sizes.pixels, width, module.norm1.normalized_shape[0]))
    if sizes.pixels and isinstance(module, SpatioTemporalResBlock):
        return _res_block(module, scaled(sizes.pixels, width, module.temporal_res_block.in_channels))
    return None


def _by_pixels(forward: Forward, size: int) -> Forward:
    """A forward over `size` pixels of each clip at a time, 0 for as many as a card's grid has."""

    def run(hidden_states: Tensor, num_frames: int, encoder_hidden_states: Tensor | None = None) -> Tensor:
        rows, total = hidden_states.shape[:2]  # (B*F, P, C)
        most = max(1, MOST_ROWS // (rows // num_frames))
        at_once = min(size or most, most)
        if at_once >= total:
            return forward(hidden_states, num_frames=num_frames, encoder_hidden_states=encoder_hidden_states)
        output = torch.empty_like(hidden_states)
        for part in chunks(total, at_once):
            context = encoder_hidden_states  # (B*P, tokens, D)
            if context is not None:
                context = context.unflatten(0, (-1, total))[:, part].flatten(0, 1)
            output[:, part] = forward(hidden_states[:, part], num_frames=num_frames, encoder_hidden_states=context)
        return output

    return run


def _res_block(module: SpatioTemporalResBlock, size: int) -> Forward:
    def run(
        hidden_states: Tensor, temb: Tensor | None = None, image_only_indicator: Tensor | None = None, **_: Any
    ) -> Tensor:
        num_frames = image_only_indicator.shape[-1]
        hidden_states = module.spatial_res_block(hidden_states, temb).contiguous()
        clips = hidden_states.flatten(2).unflatten(0, (-1, num_frames))
        for number, clip in enumerate(clips):
            of_clip = None if temb is None else temb.unflatten(0, (-1, num_frames))[number]
            over_time(module, clip, of_clip, size)
        return hidden_states

    return run


def over_time(module: SpatioTemporalResBlock, clip: Tensor, temb: Tensor | None, size: int) -> None:
    """What the block does over time, in the place of `clip` (F, C, P): `size` pixels at a time, 0 for all. `temb`
    (F, D): the embedding of the timestep; None where the block has none."""
    block = module.temporal_res_block
    added = None
    if block.time_emb_proj is not None:
        added = block.time_emb_proj(block.nonlinearity(temb)).unsqueeze(2)  # (F, C, 1)
    frames, _, pixels = clip.shape
    first = group_norm_coefficients(clip, block.norm1, frames_like(clip, size or pixels))

    def halfway(part: slice) -> Tensor:
        hidden = _convolved(block, block.conv1, normalised(clip[:, :, part], *first))
        return hidden if added is None else hidden + added

    seen = GroupStatistics(block.norm2, clip)
    for part in chunks(pixels, size):
        seen.add(halfway(part))
    second = seen.coefficients()
    indicator = clip.new_zeros(1, frames)
    for part in chunks(pixels, size):
        hidden = _convolved(block, block.conv2, normalised(halfway(part), *second))
        spatial = clip[:, :, part]
        hidden = hidden.add_(spatial)
        mixed = module.time_mixer(
            x_spatial=_as_video(spatial), x_temporal=_as_video(hidden), image_only_indicator=indicator
        )
        # The kernel spans frames and one pixel, so a chunk may overwrite its own place.
        clip[:, :, part] = mixed[0, ..., 0].transpose(0, 1)
        del hidden, spatial, mixed


def _convolved(block: TemporalResnetBlock, convolution: nn.Conv3d, hidden: Tensor) -> Tensor:
    """(F, C, p), through the activation and a convolution over time."""
    return convolution(_as_video(block.nonlinearity(hidden)))[0, ..., 0].transpose(0, 1)


def _as_video(hidden: Tensor) -> Tensor:
    """(F, C, p) as (1, C, F, p, 1)."""
    return hidden.transpose(0, 1)[None, ..., None]
