"""LTX's autoencoders, decoding in as little memory as the plan says: every layer runs over some rows of all frames at
a time, with as many more as it looks at beyond them, and overwrites its own place; the last block, whose result is the
largest, runs from beginning to end in strips of rows. Nothing in it looks at a whole picture, so that the numbers are
diffusers' own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

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


class Calls:
    """How the layers of a decoder are called: those of LTX-2."""

    def __init__(self, decoder: nn.Module) -> None:
        self._decoder = decoder

    def first(self, latents: Tensor) -> Tensor:
        """What the first layer makes of the latents."""
        return self._decoder.conv_in(latents, causal=self._decoder.is_causal)

    def resnet(self, resnet: nn.Module, given: Tensor, row: int) -> Tensor:
        """What `resnet` makes of rows that begin at `row` of a whole picture."""
        return resnet(given, causal=self._decoder.is_causal)

    def enlarged(self, upsampler: nn.Module, given: Tensor) -> Tensor:
        """What `upsampler` makes of some rows."""
        return upsampler(given, causal=self._decoder.is_causal)

    def last(self, given: Tensor) -> Tensor:
        """What the last layers make of some frames, pixels as channels."""
        decoder = self._decoder
        return decoder.conv_out(decoder.conv_act(decoder.norm_out(given)), causal=decoder.is_causal)


def frames_of(card: Card, vae: nn.Module, latents: Tensor, rows: int, calls: Calls | None = None) -> Iterator[Tensor]:
    """The frames in order, each (H, W, 3) uint8 on the host, where strips wait for the last one."""
    count, height, width = _size(vae, latents)
    strips: Tensor | None = None
    for piece in decoded(vae, latents, rows, calls):
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


def decoded(vae: nn.Module, latents: Tensor, rows: int = 0, calls: Calls | None = None) -> Iterator[Piece]:
    """The video in pieces, strip after strip, the frames of each in order. `rows`: how many rows of latents the last
    layers take at once, the largest; the others take as many as weigh the same. 0 for all. `calls`: how the layers are
    called, where they are not LTX-2's."""
    decoder, height = vae.decoder, latents.shape[3]
    calls = calls or Calls(decoder)
    most = rows * _numbers_of_a_row(vae, latents)
    held = [calls.first(latents)]
    del latents
    for resnet in decoder.mid_block.resnets:
        held[0] = _resnet(calls, resnet, held[0], 0, most)
    *blocks, last = decoder.up_blocks
    for block in blocks:
        _block(calls, block, held, 0, most)
    hidden = held.pop()
    total, (high, reach) = hidden.shape[3], _reach(last)
    strip = max(rows, STRIP_ROWS) * (total // height) if rows else total
    for start in range(0, total, strip):
        stop, top = min(total, start + strip), min(reach, start)
        held = [hidden[:, :, :, start - top : stop + reach].contiguous()]
        if stop == total:
            del hidden
        _block(calls, last, held, start - top, most)
        part = slice(top * high, (top + stop - start) * high)
        yield from _last_layer(calls, decoder.patch_size, held.pop(), start * high, part)


def _size(vae: nn.Module, latents: Tensor) -> tuple[int, int, int]:
    """Frames, height and width of the video."""
    frames, height, width = latents.shape[2:]
    each = vae.spatial_compression_ratio
    return (frames - 1) * vae.temporal_compression_ratio + 1, height * each, width * each


def _block(calls: Calls, block: nn.Module, held: list[Tensor], row: int, most: int) -> None:
    """Put its result in the place of the one tensor that is `held`, whose rows begin at `row` of the whole: nobody else
    holds what goes in."""
    if block.conv_in is not None:
        held[0] = _resnet(calls, block.conv_in, held[0], row, most)
    for upsampler in block.upsamplers or ():
        held[0] = _enlarged(calls, upsampler, held[0], most)
        row *= upsampler.stride[1]
    for resnet in block.resnets:
        held[0] = _resnet(calls, resnet, held[0], row, most)


def _reach(last: nn.Module) -> tuple[int, int]:
    """How many rows the last block makes of one, and at how many beyond its own rows it and the last layer look."""
    high = 1
    for upsampler in last.upsamplers or ():
        high *= upsampler.stride[1]
    after = RESNET_ROWS * len(last.resnets) + LAST_ROWS
    before = (UPSAMPLER_ROWS if last.upsamplers else 0) + (RESNET_ROWS if last.conv_in is not None else 0)
    return high, -(-after // high) + before


def _last_layer(calls: Calls, patch: int, hidden: Tensor, first_row: int, rows: slice) -> Iterator[Piece]:
    """The pixels of `rows` of what the last block has made; these begin at row `first_row` of the whole."""
    for frames in chunks(hidden.shape[2], FRAMES_AT_ONCE):
        before = min(LAST_FRAMES, frames.start)
        given = hidden[:, :, frames.start - before : frames.stop + LAST_FRAMES]
        made = calls.last(given)
        del given
        made = made[:, :, before : before + frames.stop - frames.start, rows]
        yield Piece(frames.start, first_row * patch, _pixels(made, patch))
        del made


def _numbers_of_a_row(vae: nn.Module, latents: Tensor) -> int:
    """How many numbers the last layer is given for one row of latents, of all frames."""
    larger = vae.spatial_compression_ratio // vae.decoder.patch_size
    frames = (latents.shape[2] - 1) * vae.temporal_compression_ratio + 1
    return vae.decoder.conv_out.in_channels * frames * larger * latents.shape[4] * larger


def _rows_at_once(hidden: Tensor, most: int) -> int:
    """As many rows of all frames as have `most` numbers; 0 for all."""
    return most and max(RESNET_ROWS, most // hidden[:, :, :, :1].numel())


def _resnet(calls: Calls, resnet: nn.Module, hidden: Tensor, row: int, most: int) -> Tensor:
    """Its result, in the place of what goes in where it has as many channels."""
    made = hidden
    if resnet.conv_shortcut is not None:
        made = hidden.new_empty(1, resnet.conv_shortcut.out_channels, *hidden.shape[2:])
    return _by_rows(lambda given, start: calls.resnet(resnet, given, row + start), hidden, made, RESNET_ROWS, 1, most)


def _enlarged(calls: Calls, upsampler: nn.Module, hidden: Tensor, most: int) -> Tensor:
    in_time, high, wide = upsampler.stride
    channels = upsampler.conv.out_channels // (in_time * high * wide)
    frames, height, width = hidden.shape[2:]
    made = hidden.new_empty(1, channels, frames * in_time - in_time + 1, height * high, width * wide)
    return _by_rows(lambda given, _: calls.enlarged(upsampler, given), hidden, made, UPSAMPLER_ROWS, high, most)


def _by_rows(
    layer: Callable[[Tensor, int], Tensor], hidden: Tensor, made: Tensor, reach: int, high: int, most: int
) -> Tensor:
    """Write into `made` what `layer` makes of `hidden`, `high` rows of each; it is told which row is its first.
    `reach`: how many rows beyond its own one depends on."""
    height = hidden.shape[3]
    above: Tensor | None = None  # the rows above a part, as they were
    for rows in chunks(height, _rows_at_once(hidden, most)):
        below = min(height, rows.stop + reach)
        given = hidden[:, :, :, rows.start : below]
        given = given.contiguous() if above is None else torch.cat([above, given], dim=3)
        top = given.shape[3] - (below - rows.start)
        above = hidden[:, :, :, rows.stop - reach : rows.stop].clone() if rows.stop < height else None
        found = layer(given, rows.start - top)
        del given
        count = rows.stop - rows.start
        made[:, :, :, rows.start * high : rows.stop * high] = found[:, :, :, top * high : (top + count) * high]
        del found
    return made


def _pixels(made: Tensor, patch: int) -> Tensor:
    """The clip of which each position of `made` has a few pixels as its channels, those of a column together."""
    parts = made.unflatten(1, (-1, 1, patch, patch)).permute(0, 1, 5, 2, 6, 4, 7, 3)
    return parts.flatten(6, 7).flatten(4, 5).flatten(2, 3)
