"""Wan's autoencoder in a run: frames of latents, as many rows of them at once as the plan says."""

from __future__ import annotations

from collections.abc import Iterator

from diffusers import AutoencoderKLWan
from torch import Tensor

from i2v.families.pixels import to_bytes
from i2v.families.wan.vae_strips import decode
from i2v.memory.card import Card


def frames_of(card: Card, vae: AutoencoderKLWan, latents: Tensor, rows: int) -> Iterator[Tensor]:
    """The frames of latents (1, C, f, h, w), in order, each (H, W, 3) uint8 on the host."""

    def to_host(pixels: Tensor) -> Tensor:
        picture = card.to_host(to_bytes(pixels[0, :, 0] / 2 + 0.5))
        return picture.permute(2, 0, 1)[None, :, None]

    for frame in decode(vae, latents, rows, to_host):
        yield frame[0, :, 0].permute(1, 2, 0).contiguous()
