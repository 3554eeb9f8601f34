"""MiniMax-H3's autoencoder of pictures, one stretch of frames at a time: diffusers' own decoding of a whole clip, whose
stretches overlap and are blended, with what is final handed on at once. Tiles in space are its own, and part of the
model: its authors decode in them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from diffusers import AutoencoderKLMiniMaxH3
from torch import Tensor

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of what goes in and comes out, by colour


def decoded(vae: AutoencoderKLMiniMaxH3, latents: Tensor) -> Iterator[Tensor]:
    """Frames (1, 3, n, H, W) in order, of latents (1, C, f, h, w) of a clip of 17 n + 5 frames. What `latents` has in
    the ways of f is as `AutoencoderKLMiniMaxH3.encode` leaves it."""
    latents = latents.to(vae.post_quant_conv.weight.dtype)
    each, overlap = vae.tokens_chunk_size, vae.token_overlap
    frames, skipped = each * vae.temporal_compression_ratio, vae.frame_pre_padding
    before: Tensor | None = None
    for begin in range(0, latents.shape[2] - overlap, each):
        clip = vae._decode_clip(latents[:, :, begin : begin + each + overlap])
        piece, after = clip[:, :, skipped:frames], clip[:, :, frames + skipped :].clone()
        del clip
        if before is not None:
            piece = vae._blend(before, piece, vae.frame_overlap, dim=-3)
        before = after
        yield piece
        del piece, after
    if before is not None:
        yield before


def by_colour(values: tuple[float, float, float]) -> Tensor:
    """(1, 3, 1, 1, 1) on the host."""
    return torch.tensor(values).view(1, -1, 1, 1, 1)
