"""What Wan is told of the pictures that a video begins and ends with: how CLIP sees them, and latents of a clip that
holds them and is grey between, with a mask of the frames that are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from diffusers import AutoencoderKLWan
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPImageProcessor, CLIPVisionModel

from i2v.families.pixels import to_tensor
from i2v.families.wan.vae_strips import encode
from i2v.memory.card import Card
from i2v.memory.windows import Part

FIRST, LAST = 0, -1  # the frames that a picture can become
MASK_CHANNELS = 4  # one for each frame that a latent one stands for


def layers(encoder: CLIPVisionModel) -> Sequence[nn.Module]:
    """The layers of the network that sees pictures."""
    return [*encoder.encoder.layers]


def up_to_what_is_read(encoder: CLIPVisionModel) -> CLIPVisionModel:
    """The network without its last layer, whose result nobody reads."""
    encoder.encoder.layers = encoder.encoder.layers[:-1]
    return encoder


def seen(
    card: Card, processor: CLIPImageProcessor, encoder: CLIPVisionModel, pictures: Sequence[Image.Image]
) -> Tensor:
    """(n, 257, D) of so many pictures, as the last layer but one sees them."""
    with card.on_host():
        pixels = processor(images=[*pictures], return_tensors="pt").pixel_values
    return encoder(card.to_card(pixels)).last_hidden_state


def latents_of(
    card: Card, vae: AutoencoderKLWan, size: tuple[int, int, int], pictures: Mapping[int, Image.Image], rows: int
) -> Tensor:
    """The autoencoder's latents of a clip of `size` (F, H, W) with these pictures, grey elsewhere; so many `rows` of
    them are made at a time, 0 for all."""
    frames = size[0]
    with card.on_host():
        on_host = {at % frames: to_tensor(picture) * 2 - 1 for at, picture in pictures.items()}
    given = {frame: card.to_card(picture) for frame, picture in on_host.items()}

    def pixels(part: Part) -> Tensor:
        span, seen_rows, columns = part
        of_any = next(iter(given.values()))[:, :, seen_rows, columns]
        clip = of_any.new_zeros(*of_any.shape[:2], span.stop - span.start, *of_any.shape[2:])
        for frame, picture in given.items():
            if span.start <= frame < span.stop:
                clip[:, :, frame - span.start] = picture[:, :, seen_rows, columns]
        return clip

    return encode(vae, size, pixels, rows)


def with_mask(latents: Tensor, ends: bool, precision: torch.dtype) -> Tensor:
    """(1, 4 + C, f, h, w) in `precision`: which frames are given, then the latents. `ends`: the last one is too."""
    condition = latents.new_zeros(1, MASK_CHANNELS + latents.shape[1], *latents.shape[2:], dtype=precision)
    condition[:, MASK_CHANNELS:] = latents
    condition[:, :MASK_CHANNELS, 0] = 1  # the first latent frame stands for the first frame alone
    if ends:
        condition[:, MASK_CHANNELS - 1, -1] = 1
    return condition
