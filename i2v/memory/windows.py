"""Decoders and encoders of videos by windows: one small piece of the clip at a time, blended where pieces overlap, and
handed on as soon as it is final.

The order of the windows and the blending are those of diffusers' tiled and framewise coding, so that with its windows
the numbers are the same to the bit; diffusers keeps all pieces until the last one is made, here only the strips live
that are still to be blended. Where group norms look at all that a network is given, as HunyuanVideo's do, other windows
make another picture: a window is no chunk.

Shapes: what goes in has f frames of h x w, what comes out is (B, C, f', h', w').
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from i2v.memory.chunking import chunks
from i2v.vae_window import VaeWindow


@dataclass(frozen=True)
class Extent:
    """Of windows in one direction, in units of what goes in: how long each is, and how far from one to the next."""

    length: int
    stride: int

    @property
    def overlap(self) -> int:
        return self.length - self.stride

    @classmethod
    def of(cls, length: int, scale: int) -> Extent:
        """Of windows of `length` latents that overlap by a quarter, rounded up, in units of which a latent has
        `scale`."""
        return cls(length * scale, (length - -(-length // 4)) * scale)


@dataclass(frozen=True)
class Windows:
    """How a clip is cut. Windows in time are one frame longer than `frames` says: a clip has one more frame than a
    multiple, which of every window after the first is left out again."""

    frames: Extent
    rows: Extent
    columns: Extent

    @classmethod
    def of(cls, window: VaeWindow, time: int, space: int) -> Windows:
        """Those that `window` names, in units of which a latent has so many in time and in space."""
        return cls(Extent.of(window.frames - 1, time), Extent.of(window.rows, space), Extent.of(window.columns, space))


@dataclass(frozen=True)
class Scale:
    """How many units come out (`up`) for how many that go in (`down`), in time and in space; one of each pair is 1."""

    time_up: int = 1
    time_down: int = 1
    space_up: int = 1
    space_down: int = 1

    def units(self, number: int) -> int:
        """Pixels or latents of one side that come out."""
        return number * self.space_up // self.space_down

    def steps(self, number: int) -> int:
        """Frames that come out, of a stretch that does not begin the clip."""
        return number * self.time_up // self.time_down

    def frames(self, number: int) -> int:
        """Frames that come out, of a whole clip of `number` frames: the first stands for itself."""
        return self.steps(number - 1) + 1


Part = tuple[slice, slice, slice]
"""Frames, rows and columns of a clip."""
Code = Callable[[Part], Tensor]
"""What comes out for a part of what goes in."""


def in_windows(code: Code, size: tuple[int, int, int], windows: Windows, scale: Scale) -> Iterator[tuple[int, Tensor]]:
    """All that comes out for a clip of `size` (f, h, w), as runs of frames in order, each with the number of its first;
    none is changed later."""
    frames, before = scale.frames(size[0]), None
    over, step = scale.steps(windows.frames.overlap), scale.steps(windows.frames.stride)
    for part in chunks(size[0], windows.frames.stride):
        begins = part.start == 0
        if part.start == size[0] - 1 and not begins:
            return  # its one frame is the one that is left out
        window = slice(part.start, part.start + windows.frames.length + 1)
        piece = _in_tiles(partial(_at, code, window), *size[1:], windows, scale)
        if not begins:
            piece = piece[:, :, 1:]
            assert before is not None
            _blend(before, piece, 2, over)
        before = piece[:, :, -over:].clone()
        first = scale.steps(part.start) + (not begins)
        final = piece[:, :, : min(step + begins, frames - first)]
        del piece
        yield first, final
        del final


def _at(code: Code, frames: slice, rows: slice, columns: slice) -> Tensor:
    return code((frames, rows, columns))


def _in_tiles(
    code: Callable[[slice, slice], Tensor], height: int, width: int, windows: Windows, scale: Scale
) -> Tensor:
    """All of one window in time. A picture that fits in one window in space is made whole."""
    rows, columns = windows.rows, windows.columns
    if height <= rows.length and width <= columns.length:
        return code(slice(None), slice(None))
    over_rows, over_columns = scale.units(rows.overlap), scale.units(columns.overlap)
    whole: Tensor | None = None
    for down in chunks(height, rows.stride):
        before: Tensor | None = None
        for across in chunks(width, columns.stride):
            top, left = down.start, across.start
            tile = code(slice(top, top + rows.length), slice(left, left + columns.length))
            if whole is None:
                whole = tile.new_empty(*tile.shape[:3], scale.units(height), scale.units(width))
                # The ends of all tiles of a row, taken at once: a dry run makes three of the tiles.
                above = tile.new_empty(-(-width // columns.stride), *tile.shape[:3], over_rows, tile.shape[4])
            ends = above[left // columns.stride, ..., : tile.shape[4]]
            if top:
                _blend(ends, tile, 3, over_rows)
            if before is not None:
                _blend(before, tile, 4, over_columns)
            if top + rows.stride < height:
                ends.copy_(tile[:, :, :, -over_rows:])
            before = tile[..., -over_columns:].clone()
            place = whole[:, :, :, scale.units(top) :, scale.units(left) :]
            final = tile[:, :, :, : scale.units(rows.stride), : scale.units(columns.stride)]
            final = final[:, :, :, : place.shape[3], : place.shape[4]]
            place[:, :, :, : final.shape[3], : final.shape[4]] = final
            del tile, final
    assert whole is not None
    return whole


def _blend(before: Tensor, after: Tensor, direction: int, overlap: int) -> None:
    """Let `after` begin as `before` ends, in equal steps over `overlap` units, in place. Each product is rounded to the
    tensors' own precision, as diffusers' one multiplication a unit rounds it."""
    overlap = min(before.shape[direction], after.shape[direction], overlap)
    share = torch.arange(overlap, dtype=torch.float64, device=after.device) / overlap
    shape = [-1 if number == direction else 1 for number in range(after.dim())]
    end = before.narrow(direction, before.shape[direction] - overlap, overlap)
    begin = after.narrow(direction, 0, overlap)
    ending = (end.float() * (1 - share).float().view(shape)).to(after.dtype)
    begin.copy_(ending + (begin.float() * share.float().view(shape)).to(after.dtype))
