"""The layers of Wan's autoencoder on some rows of one frame at a time.

Two facts make this exact. In time, every convolution looks at its own frame and at the two before it, so each layer can
take one frame, remember what it will see again, and give its frame back. In space, only convolutions and the layers
that change the size look at other rows than their own, and each says how many (`needs`): asked backwards from the rows
that are wanted in the end, the layers need ever wider strips the earlier they stand, and each gives the next one no row
too many. Group norms or attention over a whole picture would forbid it; the one attention stands in the middle block,
where whole pictures are small.

A convolution over three frames is the sum of three convolutions of one frame each: the frames it remembers need not be
put side by side, which would copy them.

The shape of a frame is (1, C, R, W), with R rows. Layers remember: a new strip needs new ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import (
    AvgDown3D,
    DupUp3D,
    WanAttentionBlock,
    WanCausalConv3d,
    WanResample,
    WanResidualBlock,
    WanRMS_norm,
)
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Rows:
    """The rows from `start` to before `stop` of a picture that has `height` of them."""

    start: int
    stop: int
    height: int

    def wider(self, by: int) -> Rows:
        """So many rows more on both sides, where the picture has them."""
        return Rows(max(0, self.start - by), min(self.height, self.stop + by), self.height)

    def narrower(self, by: int) -> Rows:
        return Rows(self.start + by, self.stop - by, self.height)

    def halved(self) -> Rows:
        """The rows of a picture of half the height that these are made of."""
        return Rows(self.start // 2, -(-self.stop // 2), self.height // 2)

    def times(self, factor: int) -> Rows:
        """The rows of a picture so many times as high that are made of these."""
        return Rows(self.start * factor, self.stop * factor, self.height * factor)

    def within(self, given: Rows) -> slice:
        """Where these rows are in a frame that has the rows `given`."""
        return slice(self.start - given.start, self.stop - given.start)

    @property
    def at_an_edge(self) -> bool:
        return self.start == 0 or self.stop == self.height


class RowLayer(Protocol):
    """A layer that takes one frame at a time and gives none, one or two."""

    def needs(self, rows: Rows) -> Rows:
        """The rows that must be given for `rows` to come out."""
        ...

    def __call__(self, frame: Tensor, given: Rows, wanted: Rows) -> list[Tensor]:
        """The next frames of the rows `wanted`, of the next one that goes in, which has `given`."""
        ...


class RowLayers:
    """Layers one after the other, for the same rows of all frames."""

    def __init__(self, layers: Sequence[RowLayer], wanted: Rows) -> None:
        self._layers = layers
        self._rows = [wanted]  # before each layer, and after the last
        for layer in reversed(layers):
            self._rows.insert(0, layer.needs(self._rows[0]))

    @property
    def needed(self) -> Rows:
        return self._rows[0]

    def after(self, frame: Tensor) -> Iterator[Tensor]:
        """What comes out after one more frame, in order. Each frame goes through to the end before the next one of its
        level begins, so that of every level hardly more than one frame exists beside what layers remember."""
        waiting = [(0, frame)]
        del frame
        while waiting:
            number, frame = waiting.pop()
            if number == len(self._layers):
                yield frame
            else:
                made = self._layers[number](frame, self._rows[number], self._rows[number + 1])
                waiting += [(number + 1, one) for one in reversed(made)]
                del made
            del frame


def activated(norm: WanRMS_norm, frame: Tensor) -> Tensor:
    """What stands before a convolution: the norm over the channels of each pixel, and SiLU. `norm` is made for clips,
    with weights (C, 1, 1, 1); here a frame has no dimension for time."""
    weights = norm.gamma.flatten()[:, None, None] * norm.scale
    wide = frame.float() if frame.dtype.itemsize < torch.float32.itemsize else frame
    normal = functional.normalize(wide, dim=1).to(frame.dtype)
    return functional.silu(normal.mul_(weights), inplace=True)


class CausalConvolution:
    """A causal convolution, which remembers as many frames as its kernel looks back: at first zeros, as diffusers pads
    a clip."""

    def __init__(self, layer: WanCausalConv3d) -> None:
        self._layer = layer
        self._back, self._reach = layer.kernel_size[0] - 1, layer.kernel_size[1] // 2
        self._remembered: list[Tensor] = []

    def needs(self, rows: Rows) -> Rows:
        return rows.wider(self._reach)

    def begin(self, like: Tensor) -> None:
        """Remember zeros, of the shape of the frames that will come."""
        if self._back and not self._remembered:
            self._remembered = [torch.zeros_like(like)] * self._back

    def remember(self, frame: Tensor) -> None:
        """Let `frame` be seen by what is computed later."""
        self._append(frame)
        self._remembered.pop(0)

    def of(self, frame: Tensor, given: Rows, wanted: Rows) -> Tensor:
        self._append(frame)
        rows = self._reach if given.at_an_edge else 0  # zeros beyond an edge; beyond a cut there are more rows
        padding = rows, self._layer.kernel_size[2] // 2
        weights = self._layer.weight.unbind(2)
        # The oldest frame is not seen again, and gives its place back here.
        total = functional.conv2d(self._remembered.pop(0), weights[0], self._layer.bias, padding=padding)
        for one, weight in zip(self._remembered, weights[1:], strict=True):
            total += functional.conv2d(one, weight, padding=padding)
        return total[:, :, wanted.within(given if rows else given.narrower(self._reach))]

    def _append(self, frame: Tensor) -> None:
        self.begin(frame)
        self._remembered.append(frame)

    def __call__(self, frame: Tensor, given: Rows, wanted: Rows) -> list[Tensor]:
        return [self.of(frame, given, wanted)]


class Residual:
    """Two convolutions, each after its norm, added to what went in."""

    def __init__(self, block: WanResidualBlock) -> None:
        self._block = block
        self._first, self._second = CausalConvolution(block.conv1), CausalConvolution(block.conv2)
        wider = isinstance(block.conv_shortcut, WanCausalConv3d)
        self._shortcut = CausalConvolution(block.conv_shortcut) if wider else None

    def needs(self, rows: Rows) -> Rows:
        return self._first.needs(self._second.needs(rows))

    def __call__(self, frame: Tensor, given: Rows, wanted: Rows) -> list[Tensor]:
        between = self._second.needs(wanted)
        made = self._first.of(activated(self._block.norm1, frame), given, between)
        made = activated(self._block.norm2, made)
        made = self._second.of(made, between, wanted)
        frame = frame[:, :, wanted.within(given)]
        made += self._shortcut.of(frame, wanted, wanted) if self._shortcut else frame
        return [made]


class Attention:
    """Attention between all pixels of a frame: it must have all rows."""

    def __init__(self, block: WanAttentionBlock) -> None:
        self._block = block

    def needs(self, rows: Rows) -> Rows:
        return Rows(0, rows.height, rows.height)

    def __call__(self, frame: Tensor, given: Rows, wanted: Rows) -> list[Tensor]:
        return [self._block(frame.unsqueeze(2)).squeeze(2)[:, :, wanted.within(given)]]


class LastConvolution(CausalConvolution):
    """Norm, activation and convolution at the end of the encoder and of the decoder."""

    def __init__(self, norm: WanRMS_norm, layer: WanCausalConv3d) -> None:
        super().__init__(layer)
        self._norm = norm

    def __call__(self, frame: Tensor, given: Rows, wanted: Rows) -> list[Tensor]:
        return [self.of(activated(self._norm, frame), given, wanted)]


class Kept:
    """Gives every frame on as it is, and keeps it for the shortcut around a whole block, as Wan 2.2 has them."""

    def __init__(self) -> None:
        self._frames: list[Tensor] = []
        self._rows = Rows(0, 0, 0)

    def needs(self, rows: Rows) -> Rows:
        return rows

    def __call__(self, frame: Tensor, given: Rows, wanted: Rows) -> list[Tensor]:
        self._frames.append(frame)
        self._rows = given
        return [frame]

    def take(self, rows: Rows) -> Tensor:
        """These rows of the frames since the last call, (1, C, n, R, W); they are kept no longer."""
        frames = [frame[:, :, rows.within(self._rows)] for frame in self._frames]
        self._frames.clear()
        return frames[0].unsqueeze(2) if len(frames) == 1 else torch.stack(frames, dim=2)


class Upsampled:
    """Twice the rows and columns, and where the layer has a convolution for it two frames for each but the first."""

    def __init__(self, layer: WanResample, shortcut: DupUp3D | None = None, kept: Kept | None = None) -> None:
        self._layer, self._shortcut, self._kept = layer, shortcut, kept
        self._in_time = CausalConvolution(layer.time_conv) if layer.mode == "upsample3d" else None
        self._first = True

    def needs(self, rows: Rows) -> Rows:
        return rows.wider(1).halved()  # its convolution comes after the enlarging

    def __call__(self, frame: Tensor, given: Rows, wanted: Rows) -> list[Tensor]:
        frames: tuple[Tensor, ...] = (frame,)
        if self._in_time and self._first:
            self._in_time.begin(frame)  # now, that every frame after the first one be the same work
        elif self._in_time:
            frames = self._in_time.of(frame, given, given).chunk(2, dim=1)
        made = [self._layer.resample(one)[:, :, wanted.within(given.times(2))] for one in frames]
        del frames
        if self._shortcut and self._kept:
            rows = wanted.halved()
            repeated = self._shortcut(self._kept.take(rows), first_chunk=self._first)
            for number, one in enumerate(made):
                one += repeated[:, :, number, wanted.within(rows.times(2))]
        self._first = False
        return made


class Downsampled:
    """Half the rows and columns, and where the layer has a convolution for it one frame of two after the first."""

    def __init__(self, layer: WanResample | None, shortcut: AvgDown3D | None = None, kept: Kept | None = None) -> None:
        self._layer, self._shortcut, self._kept = layer, shortcut, kept
        self._in_time = CausalConvolution(layer.time_conv) if layer and layer.mode == "downsample3d" else None
        self._number = -1  # of the frame that came last

    def needs(self, rows: Rows) -> Rows:
        # Row r is made of the rows 2 r, 2 r + 1 and 2 r + 2; below the last one the layer itself puts zeros.
        return Rows(2 * rows.start, min(2 * rows.stop + 1, 2 * rows.height), 2 * rows.height) if self._layer else rows

    def __call__(self, frame: Tensor, given: Rows, wanted: Rows) -> list[Tensor]:
        self._number += 1
        made = self._layer.resample(frame) if self._layer else frame
        if self._in_time and self._number % 2:
            self._in_time.remember(made)
            return []
        if self._in_time and self._number:
            made = self._in_time.of(made, wanted, wanted)
        elif self._in_time:
            self._in_time.remember(made)
        if self._shortcut and self._kept:
            averaged = self._shortcut(self._kept.take(wanted.times(2) if self._layer else wanted))
            made = made + averaged.squeeze(2)
        return [made]
