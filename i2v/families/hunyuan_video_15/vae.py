"""HunyuanVideo-1.5's autoencoder: the numbers of diffusers' own coding of a whole clip, to about 1e-6, in a fraction of
its memory. Its middle block goes through whole pictures, frame by frame; what it makes is small and held for the whole
clip. The layers that enlarge it, which take the memory, go through all frames for one strip of rows after the other,
and compute some rows twice where strips meet. A picture is encoded in strips alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from diffusers import AutoencoderKLHunyuanVideo15
from diffusers.models.autoencoders.autoencoder_kl_hunyuanvideo15 import HunyuanVideo15MidBlock
from PIL import Image
from torch import Tensor

from i2v.families.hunyuan_video_15.vae_rows import (
    CausalAttention,
    Enlarged,
    FinalConvolution,
    FirstConvolution,
    PaddedConvolution,
    ResidualRows,
    ShrunkPicture,
)
from i2v.families.pixels import to_bytes, to_tensor
from i2v.families.wan.vae_rows import RowLayer, RowLayers, Rows
from i2v.memory.card import Card
from i2v.memory.chunking import chunks


def frames_of(card: Card, vae: AutoencoderKLHunyuanVideo15, latents: Tensor, rows: int) -> Iterator[Tensor]:
    """The frames of latents (1, C, f, h, w), in order, each (H, W, 3) uint8 on the host, where strips wait for the last
    one. `rows`: how many rows of latents a strip has; 0 for all."""
    frames, height = latents.shape[2:4]
    scale, clip = vae.spatial_compression_ratio, None
    middle = _middle_of(vae, latents)
    del latents
    cut = _cut(height, rows)
    for strip in cut:
        layers = RowLayers(_enlarging(vae), strip.times(scale))
        seen = slice(layers.needed.start, layers.needed.stop)
        for part in chunks(frames, 1):
            first = vae.temporal_compression_ratio * (part.start - 1) + 1 if part.start else 0
            for number, pixels in enumerate(layers.after(middle[:, :, part.start, seen]), first):
                made = card.to_host(to_bytes(pixels[0] / 2 + 0.5))
                del pixels
                if len(cut) == 1:
                    yield made
                    continue
                with card.on_host():
                    if clip is None:
                        count = vae.temporal_compression_ratio * (frames - 1) + 1
                        clip = made.new_empty(count, height * scale, *made.shape[1:])
                    clip[number, strip.start * scale : strip.stop * scale] = made
                if strip.stop == height:
                    yield clip[number]


def of_a_picture(card: Card, vae: AutoencoderKLHunyuanVideo15, picture: Image.Image, rows: int) -> Tensor:
    """The most likely latents (1, C, 1, h, w) of a picture, scaled as they are denoised."""
    with card.on_host():
        pixels = to_tensor(picture) * 2 - 1
    pixels = card.to_card(pixels).to(vae.dtype)
    height = pixels.shape[2] // vae.spatial_compression_ratio
    middle: Tensor | None = None
    for strip in _cut(height, rows):
        layers = RowLayers(_shrinking(vae), strip)
        for made in layers.after(pixels[:, :, layers.needed.start : layers.needed.stop]):
            if middle is None:
                middle = made.new_empty(*made.shape[:2], height, made.shape[3])
            middle[:, :, strip.start : strip.stop] = made
            del made
    assert middle is not None
    encoder = vae.encoder
    last = FinalConvolution(encoder.norm_out, encoder.conv_out, encoder.group_size)
    (moments,) = RowLayers([*_middle(encoder.mid_block, 1), last], Rows(0, height, height)).after(middle)
    mean, _ = moments.unsqueeze(2).chunk(2, dim=1)
    return mean * vae.config.scaling_factor


def _cut(height: int, rows: int) -> Sequence[Rows]:
    """Strips of so many rows, the last of what is left; one strip where that is all of them, or `rows` is 0. They are
    no `chunks`: a dry run must see each, for how many rows it needs beyond its own depends on how near it is to an
    edge."""
    return [Rows(start, stop, height) for start, stop in pairwise([*range(0, height, rows or height), height])]


def _middle_of(vae: AutoencoderKLHunyuanVideo15, latents: Tensor) -> Tensor:
    """What the decoder's middle block makes of every frame of `latents`: (1, C', f, h, w)."""
    frames, height, width = latents.shape[2:]
    decoder = vae.decoder
    first = FirstConvolution(decoder.conv_in, decoder.repeat)
    layers = RowLayers([first, *_middle(decoder.mid_block, frames)], Rows(0, height, height))
    whole = latents.new_empty(1, decoder.conv_in.conv.out_channels, frames, height, width)
    for number in range(frames):  # no `chunks`: each looks at more frames than the one before
        (whole[:, :, number],) = layers.after(latents[:, :, number])
    return whole


def _middle(block: HunyuanVideo15MidBlock, frames: int) -> Iterator[RowLayer]:
    first, *others = block.resnets
    yield ResidualRows(first)
    for attention, resnet in zip(block.attentions, others, strict=True):
        yield CausalAttention(attention, frames)
        yield ResidualRows(resnet)


def _enlarging(vae: AutoencoderKLHunyuanVideo15) -> Sequence[RowLayer]:
    """The decoder after its middle block."""
    layers: list[RowLayer] = []
    for block in vae.decoder.up_blocks:
        layers += map(ResidualRows, block.resnets)
        layers += map(Enlarged, block.upsamplers or ())
    return [*layers, FinalConvolution(vae.decoder.norm_out, vae.decoder.conv_out)]


def _shrinking(vae: AutoencoderKLHunyuanVideo15) -> Sequence[RowLayer]:
    """The encoder before its middle block."""
    layers: list[RowLayer] = [PaddedConvolution(vae.encoder.conv_in)]
    for block in vae.encoder.down_blocks:
        layers += map(ResidualRows, block.resnets)
        layers += map(ShrunkPicture, block.downsamplers or ())
    return layers
