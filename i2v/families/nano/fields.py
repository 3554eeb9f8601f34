"""What nano's latents mean, and the low-resolution channels that carry the picture beside the noise.

A latent is (B, 7, K, h, w), for every cell of the *first* frame and K key times, the clip's middle and its end, however
many frames it has; lengths in units of the picture's short side, x right and y down:

- `camera` (2): where the camera's own motion takes the cell until that time; how far a hand-held one sways;
- `living` (2): how what lives in the picture moves there: the way that water or a cloud goes in a clip, how far a leaf
  sways, a chest swells or a petal opens;
- `near` (1): how near it is, 0 far to 1 near;
- `alive` (1): whether it lives. Learned beside the others, and not followed: what lives is where a person painted or
  the finder sees it (see `place`);
- `light` (1): how much brighter it becomes, natural logarithm of the gain.

Only the camera's path differs between key times: of the others the decoder takes the mean, which has less of the grain
that denoising leaves. When what lives is where is the decoder's (see `life`): it is periodic, so the clip loops. The
camera is apart from life because a wave is a tenth of a pan: in one channel the pan's error drowns it.

Training and inference share this file, so the two can not drift apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

CHANNELS = 7
KEY_TIMES = (0.5, 1.0)  # shares of the clip; at its beginning everything is where it is
PICTURE_CHANNELS = 17  # 12 colour, 3 texture, 2 position
REGION_CHANNELS = 4  # what may live, whether a person said so, and the way it is to go
TIME_CHANNELS = 2
UNET_IN_CHANNELS = CHANNELS + PICTURE_CHANNELS + REGION_CHANNELS + TIME_CHANNELS
CLIP_SECONDS = 4.0  # of a clip whose motion is as large as it was taught

CELLS = 1024  # a square picture has 32 x 32 cells; other shapes as many, to their own proportions
CELL_MULTIPLE = 4  # two halvings in the UNet

CAMERA_UNIT = 0.08  # linear, so that guidance scales a camera motion and does not raise it to a power
# Living displacement d is stored as asinh(d / knee): a ripple of half a percent and a cloud's tenth both get a voice.
LIVING_KNEE = 0.015
LIVING_LIMIT = 4.0
# And light in the same way: a candle's flicker and nightfall. The limit leaves night 6 % of day, and not black.
LIGHT_KNEE = 0.15
LIGHT_LIMIT = 3.6


@dataclass(frozen=True)
class Motion:
    """The parts of a latent in their own units: camera and living (..., 2, K, h, w), near, alive and light
    (..., 1, K, h, w)."""

    camera: Tensor
    living: Tensor
    near: Tensor
    alive: Tensor
    light: Tensor


def field_size(height: int, width: int) -> tuple[int, int]:
    """Cells (h, w) for a picture of `height` x `width` pixels: about CELLS of them, multiples of CELL_MULTIPLE."""
    aspect = min(max(width / height, 1 / 3), 3.0)
    w = round((CELLS * aspect) ** 0.5 / CELL_MULTIPLE) * CELL_MULTIPLE
    h = round((CELLS / aspect) ** 0.5 / CELL_MULTIPLE) * CELL_MULTIPLE
    return h, w


def pack(motion: Motion) -> Tensor:
    """Latents (..., 7, F, h, w)."""
    living, light = torch.asinh(motion.living / LIVING_KNEE), torch.asinh(motion.light / LIGHT_KNEE)
    parts = [motion.camera / CAMERA_UNIT, living, motion.near * 2 - 1, motion.alive * 2 - 1, light]
    return torch.cat(parts, dim=-4)


def unpack(latents: Tensor) -> Motion:
    """The inverse of `pack`."""
    camera, living, near, alive, light = latents.split((2, 2, 1, 1, 1), dim=-4)
    return Motion(
        camera=camera * CAMERA_UNIT,
        living=torch.sinh(living.clamp(-LIVING_LIMIT, LIVING_LIMIT)) * LIVING_KNEE,
        near=(near + 1) / 2,
        alive=(alive + 1) / 2,
        light=torch.sinh(light.clamp(-LIGHT_LIMIT, LIGHT_LIMIT)) * LIGHT_KNEE,
    )


def positions(h: int, w: int, aspect: float) -> Tensor:
    """Cell centres (2, h, w) from the picture's middle, x right and y down, the short side being 1."""
    width, height = (aspect, 1.0) if aspect >= 1 else (1.0, 1 / aspect)
    x = (torch.arange(w) + 0.5) / w * width - width / 2
    y = (torch.arange(h) + 0.5) / h * height - height / 2
    return torch.stack([x.expand(h, w), y[:, None].expand(h, w)])


def picture_channels(picture: Tensor, h: int, w: int, aspect: float) -> Tensor:
    """What the UNet sees of the picture: (B, 17, h, w) from `picture` (B, 3, H, W) in [0, 1].

    Colour at twice the cells' resolution folded into 12 channels, texture (contrast, horizontal and vertical
    gradients inside each cell, from four times the resolution), and where the cell lies.
    """
    fine = functional.interpolate(picture, size=(4 * h, 4 * w), mode="area")
    colour = functional.pixel_unshuffle(functional.avg_pool2d(fine, 2) * 2 - 1, 2)
    luma = (fine * fine.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    mean = functional.avg_pool2d(luma, 4)
    contrast = (functional.avg_pool2d(luma**2, 4) - mean**2).clamp_min(0).sqrt()
    padded = functional.pad(luma, (0, 1, 0, 1), mode="replicate")
    horizontal = functional.avg_pool2d((padded[..., :-1, 1:] - luma).abs(), 4)
    vertical = functional.avg_pool2d((padded[..., 1:, :-1] - luma).abs(), 4)
    texture = torch.cat([contrast, horizontal, vertical], dim=1) * 6
    place = positions(h, w, aspect).to(picture).expand(picture.shape[0], -1, -1, -1) * 2
    return torch.cat([colour, texture, place], dim=1)


def region_channels(region: Tensor, known: Tensor, way: Tensor, h: int, w: int) -> Tensor:
    """What the UNet sees of what lives: (B, 4, h, w) from `region` (B, 1, H, W) in 0..1, which counts as far as it is
    `known` (B, 1, 1, 1), and the `way` that a stroke says (B, 2), of length 1 or 0."""
    share = known * functional.interpolate(region, size=(h, w), mode="area")
    return torch.cat([share, known.expand_as(share), way[..., None, None] * share], dim=1)


def time_channels() -> Tensor:
    """When each key time is, (K, 2): the share of the clip, and how near the start."""
    time = torch.tensor(KEY_TIMES)
    return torch.stack([time, torch.exp(-8 * time)], dim=-1)


def unet_input(noisy: Tensor, seen: Tensor, times: Tensor) -> Tensor:
    """Latents (B, 7, K, h, w), picture and region channels (B, 21, h, w) and time channels (K, 2) as one input."""
    batch, _, keys, h, w = noisy.shape
    seen = seen[:, :, None].expand(-1, -1, keys, -1, -1)
    times = times.expand(batch, keys, -1).transpose(1, 2)[..., None, None].expand(-1, -1, -1, h, w)
    return torch.cat([noisy, seen.to(noisy), times.to(noisy)], dim=1)


def summary(sentence: Tensor) -> Tensor:
    """(B, D) of the whole sentence, from the text encoder's (B, T, D): the last place has read all before it."""
    return sentence[:, -1]
