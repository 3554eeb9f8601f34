"""Wan's autoencoder in strips of rows: the numbers of diffusers' own coding of a whole clip, to about 1e-6, in a
fraction of its memory.

What takes the memory are the layers at full size and what they remember of earlier frames. So these take one strip of
rows after the other, each strip through all frames; the middle block, whose attention looks at whole pictures, and what
stands between it and the latents take whole pictures, and what lies between both is held for the whole clip: it is
small. Where strips meet, the layers compute some rows twice: that is the price.

Both of Wan's autoencoders are read: 2.1's, and 2.2's with shortcuts around its blocks (`is_residual`) and pixels that
are folded into channels (`patch_size`).
Shapes: a clip (1, 3, F, H, W) with F = 4 (f - 1) + 1 and H, W multiples of what a latent stands for; latents
(1, C, f, h, w).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import pairwise

from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import (
    WanMidBlock,
    WanResample,
    WanResidualBlock,
    WanResidualDownBlock,
    patchify,
    unpatchify,
)
from torch import Tensor

from i2v.families.wan.vae_rows import (
    Attention,
    CausalConvolution,
    Downsampled,
    Kept,
    LastConvolution,
    Residual,
    RowLayer,
    RowLayers,
    Rows,
    Upsampled,
)
from i2v.memory.card import Card
from i2v.memory.chunking import chunks
from i2v.memory.windows import Part

ToHost = Callable[[Tensor], Tensor]
"""Takes pixels (1, 3, 1, R, W) in -1..1 off the card, perhaps as bytes; the shape stays."""


def decode(vae: AutoencoderKLWan, latents: Tensor, rows: int = 0, to_host: ToHost | None = None) -> Iterator[Tensor]:
    """The frames of `latents`, (1, 3, 1, H, W) in -1..1, in order, each as soon as it is final.

    `rows`: how many rows of latents a strip has; 0 for all, and then nothing is computed twice. With several strips
    frames are final only when the last one is decoded, and the others wait for it: on the host if `to_host` takes them
    there, and what is given are then whole frames of what it makes; else where they are, in the latents' precision."""
    height = latents.shape[3]
    whole = Rows(0, height, height)
    cut = _cut(height, rows)
    if len(cut) == 1:
        layers = RowLayers([*_decoder_middle(vae), *_enlarging(vae)], whole.times(2 ** len(vae.temperal_upsample)))
        for part in chunks(latents.shape[2], 1):
            for frame in layers.after(latents[:, :, part.start]):
                pixels = _pixels(vae, frame)
                yield to_host(pixels) if to_host else pixels
        return
    middle = _gathered(RowLayers(_decoder_middle(vae), whole), latents)
    clip: Tensor | None = None
    for strip in cut:
        for number, pixels in _decoded_strip(vae, middle, strip):
            made = to_host(pixels) if to_host else pixels
            del pixels
            with Card.on_host() if to_host else nullcontext():
                if clip is None:
                    clip = _empty_clip(vae, made, latents)
                place = strip.times(clip.shape[3] // height)
                clip[:, :, number : number + 1, place.start : place.stop] = made
            del made
            if strip.stop == height:
                yield clip[:, :, number : number + 1]


def encode(
    vae: AutoencoderKLWan, size: tuple[int, int, int], pixels: Callable[[Part], Tensor], rows: int = 0
) -> Tensor:
    """The most likely latents (1, C, f, h, w) of a clip of `size` (F, H, W), of which `pixels` gives some frames and
    rows at a time, (1, 3, F', H', W') in -1..1: nobody need hold the whole clip. Frames beyond the last whole group of
    four are left out, as diffusers does."""
    frames, pixel_rows, _ = size
    factor = 2 ** len(vae.temperal_downsample)  # from rows that the encoder sees to those of latents
    height = pixel_rows // (factor * (vae.config.patch_size or 1))
    number_of_latents = (frames - 1) // _frames_of_a_latent(vae) + 1
    last = RowLayers(_encoder_middle(vae), Rows(0, height, height))
    cut = _cut(height, rows)
    if len(cut) == 1:
        layers = RowLayers(_shrinking(vae), Rows(0, height, height))
        return _most_likely(last, _shrunk(vae, layers, pixels, number_of_latents), number_of_latents)
    middle: Tensor | None = None
    for strip in cut:
        layers = RowLayers(_shrinking(vae), strip)
        for number, frame in _shrunk(vae, layers, pixels, number_of_latents):
            if middle is None:
                middle = frame.new_empty(1, frame.shape[1], number_of_latents, height, frame.shape[3])
            middle[:, :, number, strip.start : strip.stop] = frame
            del frame
    assert middle is not None
    every = ((part.start, middle[:, :, part.start]) for part in chunks(number_of_latents, 1))
    return _most_likely(last, every, number_of_latents)


def _cut(height: int, rows: int) -> list[Rows]:
    """Strips of so many rows, the last of what is left; one strip where that is all of them, or `rows` is 0. They are
    no `chunks`: a dry run must see each, for how many rows it needs beyond its own depends on how near it is to an
    edge. All but the last are alike, so that no clip holds more than one that is higher."""
    bounds = [*range(0, height, rows or height), height]
    return [Rows(start, stop, height) for start, stop in pairwise(bounds)]


def _decoded_strip(vae: AutoencoderKLWan, middle: Tensor, rows: Rows) -> Iterator[tuple[int, Tensor]]:
    """Every frame's number in the clip, and its pixels that are made of these rows of latents."""
    layers = RowLayers(_enlarging(vae), rows.times(2 ** len(vae.temperal_upsample)))
    seen = slice(layers.needed.start, layers.needed.stop)
    for part in chunks(middle.shape[2], 1):
        first = _frames_before(vae, part.start)
        for number, frame in enumerate(layers.after(middle[:, :, part.start, seen]), first):
            yield number, _pixels(vae, frame)
            del frame


def _shrunk(
    vae: AutoencoderKLWan, layers: RowLayers, pixels: Callable[[Part], Tensor], number_of_latents: int
) -> Iterator[tuple[int, Tensor]]:
    """Every latent frame's number, and what comes of its pixels before the middle block."""
    patch = vae.config.patch_size
    seen = layers.needed
    rows = slice(seen.start * (patch or 1), seen.stop * (patch or 1))
    for part in chunks(number_of_latents, 1):
        span = slice(_frames_before(vae, part.start), _frames_before(vae, part.stop))
        group = pixels((span, rows, slice(None)))
        for frame in (patchify(group, patch) if patch else group).unbind(2):
            yield from ((part.start, made) for made in layers.after(frame))


def _most_likely(last: RowLayers, every: Iterator[tuple[int, Tensor]], number_of_latents: int) -> Tensor:
    """The mean of what `last` makes of every frame: the first half of its channels."""
    latents: Tensor | None = None
    for number, frame in every:
        for moments in last.after(frame):
            mean, _ = moments.chunk(2, dim=1)
            if latents is None:
                latents = mean.new_empty(*mean.shape[:2], number_of_latents, *mean.shape[2:])
            latents[:, :, number] = mean
    assert latents is not None
    return latents


def _gathered(layers: RowLayers, clip: Tensor) -> Tensor:
    """What `layers` make of every frame of `clip`, one of each."""
    whole: Tensor | None = None
    for part in chunks(clip.shape[2], 1):
        for frame in layers.after(clip[:, :, part.start]):
            if whole is None:  # all of it at once: a dry run makes only some of the frames
                whole = frame.new_empty(*frame.shape[:2], clip.shape[2], *frame.shape[2:])
            whole[:, :, part.start] = frame
    assert whole is not None
    return whole


def _frames_of_a_latent(vae: AutoencoderKLWan) -> int:
    return 2 ** sum(vae.temperal_downsample)


def _frames_before(vae: AutoencoderKLWan, latent: int) -> int:
    """How many frames those latents stand for that come before: the first for one frame."""
    return _frames_of_a_latent(vae) * (latent - 1) + 1 if latent else 0


def _empty_clip(vae: AutoencoderKLWan, strip: Tensor, latents: Tensor) -> Tensor:
    """Room for all frames of `latents`, of which `strip` is some rows of one."""
    scale = strip.shape[4] // latents.shape[4]
    frames = _frames_before(vae, latents.shape[2])
    return strip.new_empty(1, strip.shape[1], frames, latents.shape[3] * scale, strip.shape[4])


def _pixels(vae: AutoencoderKLWan, frame: Tensor) -> Tensor:
    """(1, C, R, W) from the decoder as pixels (1, 3, 1, R', W')."""
    clip = frame.unsqueeze(2)
    if vae.config.patch_size:
        clip = unpatchify(clip, vae.config.patch_size)
    return clip.clamp_(-1.0, 1.0)


def _middle(block: WanMidBlock) -> Iterator[RowLayer]:
    first, *others = block.resnets
    yield Residual(first)
    for attention, resnet in zip(block.attentions, others, strict=True):
        yield Attention(attention)
        yield Residual(resnet)


def _decoder_middle(vae: AutoencoderKLWan) -> list[RowLayer]:
    return [
        CausalConvolution(vae.post_quant_conv),
        CausalConvolution(vae.decoder.conv_in),
        *_middle(vae.decoder.mid_block),
    ]


def _enlarging(vae: AutoencoderKLWan) -> list[RowLayer]:
    """The decoder after its middle block."""
    layers: list[RowLayer] = []
    for block in vae.decoder.up_blocks:
        shortcut = getattr(block, "avg_shortcut", None)
        kept = Kept() if shortcut else None
        if kept:
            layers.append(kept)
        layers += map(Residual, block.resnets)
        for upsampler in (block.upsampler,) if vae.config.is_residual else block.upsamplers or ():
            if upsampler:
                layers.append(Upsampled(upsampler, shortcut, kept))
    return [*layers, LastConvolution(vae.decoder.norm_out, vae.decoder.conv_out)]


def _shrinking(vae: AutoencoderKLWan) -> list[RowLayer]:
    """The encoder before its middle block."""
    layers: list[RowLayer] = [CausalConvolution(vae.encoder.conv_in)]
    for block in vae.encoder.down_blocks:
        match block:
            case WanResidualDownBlock():
                kept = Kept()
                layers += [kept, *map(Residual, block.resnets)]
                layers.append(Downsampled(block.downsampler, block.avg_shortcut, kept))
            case WanResidualBlock():
                layers.append(Residual(block))
            case WanResample():
                layers.append(Downsampled(block))
            case _:
                raise TypeError(f"no strips of {type(block).__name__}: it may look at whole pictures")
    return layers


def _encoder_middle(vae: AutoencoderKLWan) -> list[RowLayer]:
    """The encoder from its middle block on, and what makes moments of it."""
    last = LastConvolution(vae.encoder.norm_out, vae.encoder.conv_out)
    return [*_middle(vae.encoder.mid_block), last, CausalConvolution(vae.quant_conv)]
