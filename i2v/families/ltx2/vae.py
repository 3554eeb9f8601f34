"""LTX-2's autoencoder, decoding in as little memory as the plan says: every layer runs over some rows of all frames at
a time, with as many more as it looks at beyond them, and overwrites its own place; the last block, whose result is the
largest, runs from beginning to end in strips of rows. Nothing in it looks at a whole picture, so that the numbers are
diffusers' own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from diffusers import AutoencoderKLLTX2Video
from diffusers.models.autoencoders.autoencoder_kl_ltx2 import (
    LTX2VideoDecoder3d,
    LTX2VideoResnetBlock3d,
    LTX2VideoUpBlock3d,
    LTX2VideoUpsampler3d,
)
from torch import Tensor

from i2v.families.pixels import to_bytes
from i2v.memory.card import Card
from i2v.memory.chunking import chunks

FRAMES_AT_ONCE = 8  # of the last layer
RESNET_ROWS, UPSAMPLER_ROWS, LAST_ROWS = 2, 1, 1  # that a layer looks at beyond its own: one for each convolution
LAST_FRAMES = 2  # as well, of the last layer, where it looks at earlier frames alone
STRIP_ROWS = 4  # rows of latents that a strip has at least: of fewer most would be computed twice


@dataclass(frozen=True)
class Piece:
    """Pixels (1, 3, t, h, W) in -1..1, from this frame and this row on."""

    frame: int
    row: int
    pixels: Tensor


def frames_of(card: Card, vae: AutoencoderKLLTX2Video, latents: Tensor, rows: int) -> Iterator[Tensor]:
    """The frames in order, each (H, W, 3) uint8 on the host, where strips wait for the last one."""
    count, height, width = _size(vae, latents)
    strips: Tensor | None = None
    for piece in decoded(vae, latents, rows):
        high = piece.pixels.shape[3]
        for number, picture in enumerate(piece.pixels[0].transpose(0, 1), start=piece.frame):
            made = card.to_host(to_bytes(picture / 2 + 0.5))
            if high == height:
                yield made
                continue
            with card.on_host():
                if strips is None:
                    strips = torch.empty(count, height, width, 3, dtype=torch.uint8)
                strips[number, piece.row : piece.row + high] = made
                if piece.row + high == height:
                    yield strips[number]
        del piece


def decoded(vae: AutoencoderKLLTX2Video, latents: Tensor, rows: int = 0) -> Iterator[Piece]:
    """The video in pieces, strip after strip, the frames of each in order. `rows`: how many rows of latents the last
    layers take at once, the largest; the others take as many as weigh the same. 0 for all."""
    decoder = vae.decoder
    causal, height = decoder.is_causal, latents.shape[3]
    most = rows * _numbers_of_a_row(vae, latents)
    held = [decoder.conv_in(latents, causal=causal)]
    del latents
    for resnet in decoder.mid_block.resnets:
        held[0] = _resnet(resnet, held[0], causal, most)
    *blocks, last = decoder.up_blocks
    for block in blocks:
        _block(block, held, causal, most)
    hidden = held.pop()
    total, (high, reach) = hidden.shape[3], _reach(last)
    strip = max(rows, STRIP_ROWS) * (total // height) if rows else total
    for start in range(0, total, strip):
        stop, top = min(total, start + strip), min(reach, start)
        held = [hidden[:, :, :, start - top : stop + reach].contiguous()]
        if stop == total:
            del hidden
        _block(last, held, causal, most)
        part = slice(top * high, (top + stop - start) * high)
        yield from _last_layer(decoder, held.pop(), causal, start * high, part)


def _size(vae: AutoencoderKLLTX2Video, latents: Tensor) -> tuple[int, int, int]:
    """Frames, height and width of the video."""
    frames, height, width = latents.shape[2:]
    each = vae.spatial_compression_ratio
    return (frames - 1) * vae.temporal_compression_ratio + 1, height * each, width * each


def _block(block: LTX2VideoUpBlock3d, held: list[Tensor], causal: bool, most: int) -> None:
    """Put its result in the place of the one tensor that is `held`: nobody else holds what goes in."""
    if block.conv_in is not None:
        held[0] = _resnet(block.conv_in, held[0], causal, most)
    for upsampler in block.upsamplers or ():
        held[0] = _enlarged(upsampler, held[0], causal, most)
    for resnet in block.resnets:
        held[0] = _resnet(resnet, held[0], causal, most)


def _reach(last: LTX2VideoUpBlock3d) -> tuple[int, int]:
    """How many rows the last block makes of one, and at how many beyond its own rows it and the last layer look."""
    high = 1
    for upsampler in last.upsamplers or ():
        high *= upsampler.stride[1]
    after = RESNET_ROWS * len(last.resnets) + LAST_ROWS
    before = (UPSAMPLER_ROWS if last.upsamplers else 0) + (RESNET_ROWS if last.conv_in is not None else 0)
    return high, -(-after // high) + before


def _last_layer(
    decoder: LTX2VideoDecoder3d, hidden: Tensor, causal: bool, first_row: int, rows: slice
) -> Iterator[Piece]:
    """The pixels of `rows` of what the last block has made; these begin at row `first_row` of the whole."""
    for frames in chunks(hidden.shape[2], FRAMES_AT_ONCE):
        before = min(LAST_FRAMES, frames.start)
        given = hidden[:, :, frames.start - before : frames.stop + LAST_FRAMES]
        made = decoder.conv_out(decoder.conv_act(decoder.norm_out(given)), causal=causal)
        del given
        made = made[:, :, before : before + frames.stop - frames.start, rows]
        yield Piece(frames.start, first_row * decoder.patch_size, _pixels(made, decoder))
        del made


def _numbers_of_a_row(vae: AutoencoderKLLTX2Video, latents: Tensor) -> int:
    """How many numbers the last layer is given for one row of latents, of all frames."""
    larger = vae.spatial_compression_ratio // vae.decoder.patch_size
    frames = (latents.shape[2] - 1) * vae.temporal_compression_ratio + 1
    return vae.decoder.conv_out.in_channels * frames * larger * latents.shape[4] * larger


def _rows_at_once(hidden: Tensor, most: int) -> int:
    """As many rows of all frames as have `most` numbers; 0 for all."""
    return most and max(RESNET_ROWS, most // hidden[:, :, :, :1].numel())


def _resnet(resnet: LTX2VideoResnetBlock3d, hidden: Tensor, causal: bool, most: int) -> Tensor:
    """Its result, in the place of what goes in where it has as many channels."""
    made = hidden
    if resnet.conv_shortcut is not None:
        made = hidden.new_empty(1, resnet.conv_shortcut.out_channels, *hidden.shape[2:])
    return _by_rows(partial(resnet, causal=causal), hidden, made, RESNET_ROWS, 1, most)


def _enlarged(upsampler: LTX2VideoUpsampler3d, hidden: Tensor, causal: bool, most: int) -> Tensor:
    in_time, high, wide = upsampler.stride
    channels = upsampler.conv.out_channels // (in_time * high * wide)
    frames, height, width = hidden.shape[2:]
    made = hidden.new_empty(1, channels, frames * in_time - in_time + 1, height * high, width * wide)
    return _by_rows(partial(upsampler, causal=causal), hidden, made, UPSAMPLER_ROWS, high, most)


def _by_rows(
    layer: Callable[[Tensor], Tensor], hidden: Tensor, made: Tensor, reach: int, high: int, most: int
) -> Tensor:
    """Write into `made` what `layer` makes of `hidden`, `high` rows of each. `reach`: how many rows beyond its own one
    depends on."""
    height = hidden.shape[3]
    above: Tensor | None = None  # the rows above a part, as they were
    for rows in chunks(height, _rows_at_once(hidden, most)):
        below = min(height, rows.stop + reach)
        given = hidden[:, :, :, rows.start : below]
        given = given.contiguous() if above is None else torch.cat([above, given], dim=3)
        top = given.shape[3] - (below - rows.start)
        above = hidden[:, :, :, rows.stop - reach : rows.stop].clone() if rows.stop < height else None
        found = layer(given)
        del given
        count = rows.stop - rows.start
        made[:, :, :, rows.start * high : rows.stop * high] = found[:, :, :, top * high : (top + count) * high]
        del found
    return made


def _pixels(made: Tensor, decoder: LTX2VideoDecoder3d) -> Tensor:
    """The clip of which each position of `made` has a few pixels as its channels, those of a column together."""
    size, in_time = decoder.patch_size, decoder.patch_size_t
    parts = made.unflatten(1, (-1, in_time, size, size)).permute(0, 1, 5, 2, 6, 4, 7, 3)
    return parts.flatten(6, 7).flatten(4, 5).flatten(2, 3)
