"""Between pictures and tensors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from i2v.memory.card import Card
from i2v.memory.windows import Part

# Latents of the Stable Diffusion VAE seen directly as colours: a least-squares fit published by Kevin Turner on the
# Hugging Face forum (2022, "Decoding latents to RGB without upscaling"). Rows are channels, columns R, G, B.
LATENT_TO_RGB = (
    (0.298, 0.207, 0.208),
    (0.187, 0.286, 0.173),
    (-0.158, 0.189, 0.264),
    (-0.184, -0.271, -0.473),
)


class NotFinite(Exception):
    """A picture holds values that are not numbers: half precision has overflowed in a layer that made it."""


def to_tensor(picture: Image.Image) -> Tensor:
    """An RGB picture as (1, 3, H, W) float32 in 0..1."""
    return torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255).permute(2, 0, 1).unsqueeze(0)


def window_of(card: Card, pictures: Sequence[Image.Image], part: Part) -> Tensor:
    """(1, 3, F, H, W) float32 in -1..1 on the card: `part` of a clip of RGB pictures."""
    frames, rows, columns = part
    with card.on_host():
        window = torch.from_numpy(np.stack([np.asarray(one)[rows, columns] for one in pictures[frames]]))
    window = card.to_card(window).permute(3, 0, 1, 2).unsqueeze(0)
    return window.float() / 255 * 2 - 1


def to_bytes(picture: Tensor) -> Tensor:
    """(3, H, W) in 0..1, clamped, as (H, W, 3) uint8, rounded as diffusers does. Raises NotFinite: as bytes such values
    would be black, and nobody would know."""
    with Card.on_host():  # a look at the card's results, which no prediction counts
        if not isinstance(picture, FakeTensor) and not torch.isfinite(picture.sum(dtype=torch.float32)):
            raise NotFinite
    return picture.float().clamp(0, 1).mul_(255).round_().to(torch.uint8).permute(1, 2, 0).contiguous()


def in_colours(latents: Tensor) -> Tensor:
    """A small clip (F, h, w, 3) uint8 of latents (F, 4, h, w) of the autoencoder of Stable Diffusion."""
    colours = torch.einsum("fchw,cr->frhw", latents.float().cpu(), torch.tensor(LATENT_TO_RGB))
    return torch.stack([to_bytes(picture / 2 + 0.5) for picture in colours])


def in_grey(latents: Tensor) -> Tensor:
    """A small clip (F, h, w, 3) uint8 of latents (1, C, F, h, w), for a family whose channels nobody has published the
    colours of: what sets its latents apart the most."""
    tokens = latents.flatten(2)[0].T
    tokens = tokens - tokens.mean(dim=0, keepdim=True)
    _, directions = torch.linalg.eigh(tokens.T @ tokens)
    most = directions[:, -1]
    grey = tokens @ (most * most.sum().sign())
    low, high = grey.aminmax()
    pictures = (grey - low).div(high - low + 1e-6).unflatten(0, latents.shape[2:])
    return torch.stack([to_bytes(picture.expand(3, -1, -1)) for picture in pictures])
