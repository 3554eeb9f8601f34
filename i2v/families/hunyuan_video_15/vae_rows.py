"""The layers of HunyuanVideo-1.5's autoencoder on some rows of one frame at a time, as `families.wan.vae_rows` runs
them: all norms are over the channels of one pixel, every convolution looks at its own frame and at the two before it,
and the one attention stands in the middle block, where whole pictures are small.

Other than Wan's: beyond an edge, and before the first frame, stand copies of what is nearest instead of zeros; the
attention looks at all earlier frames too; and what changes the size folds pixels into channels.
A frame is (1, C, R, W), with R rows. Layers remember: a new strip needs new ones.
"""

from __future__ import annotations

import torch
from diffusers.models.autoencoders.autoencoder_kl_hunyuanvideo15 import (
    HunyuanVideo15AttnBlock,
    HunyuanVideo15CausalConv3d,
    HunyuanVideo15Downsample,
    HunyuanVideo15ResnetBlock,
    HunyuanVideo15RMS_norm,
    HunyuanVideo15Upsample,
)
from torch import Tensor
from torch.nn import functional

from i2v.families.wan.vae_rows import Rows, activated
from i2v.memory.chunking import chunks

QUERIES = 256  # pixels that attend at once: some kernels hold how much each looks at every other


class PaddedConvolution:
    """A causal convolution, which remembers as many frames as its kernel looks back, each with what stands beyond its
    edges: at first copies of the first one."""

    def __init__(self, layer: HunyuanVideo15CausalConv3d) -> None:
        self._convolution = layer.conv
        self._back, self._reach = layer.conv.kernel_size[0] - 1, layer.conv.kernel_size[1] // 2
        self._remembered: list[Tensor] = []

    def needs(self, rows: Rows) -> Rows:
        return rows.wider(self._reach)

    def of(self, frame: Tensor, given: Rows, wanted: Rows) -> Tensor:
        reach = self._reach
        above, below = (reach if edge else 0 for edge in (given.start == 0, given.stop == given.height))
        frame = functional.pad(frame, (reach, reach, above, below), mode="replicate")
        self._remembered = self._remembered or [frame] * self._back
        self._remembered.append(frame)
        del frame
        weights = self._convolution.weight.unbind(2)
        # The oldest frame is not seen again, and gives its place back here.
        total = functional.conv2d(self._remembered.pop(0), weights[0], self._convolution.bias)
        for one, weight in zip(self._remembered, weights[1:], strict=True):
            total += functional.conv2d(one, weight)
        made = Rows(given.start + reach - above, given.stop - reach + below, given.height)
        return total[:, :, wanted.within(made)]

    def __call__(self, frame: Tensor, given: Rows, wanted: Rows) -> list[Tensor]:
        return [self.of(frame, given, wanted)]


class FirstConvolution(PaddedConvolution):
    """The decoder's first, with its shortcut: every channel stands for several."""

    def __init__(self, layer: HunyuanVideo15CausalConv3d, repeat: int) -> None:
        super().__init__(layer)
        self._repeat = repeat

    def __call__(self, frame: Tensor, given: Rows, wanted: Rows) -> list[Tensor]:
        made = self.of(frame, given, wanted)
        return [made + frame[:, :, wanted.within(given)].repeat_interleave(self._repeat, dim=1)]


class FinalConvolution(PaddedConvolution):
    """Norm, activation and convolution at the end; in the encoder with a shortcut, for which `group` channels are
    averaged."""

    def __init__(self, norm: HunyuanVideo15RMS_norm, layer: HunyuanVideo15CausalConv3d, group: int = 0) -> None:
        super().__init__(layer)
        self._norm, self._group = norm, group

    def __call__(self, frame: Tensor, given: Rows, wanted: Rows) -> list[Tensor]:
        made = self.of(activated(self._norm, frame), given, wanted)
        if self._group:
            made = made + frame[:, :, wanted.within(given)].unflatten(1, (-1, self._group)).mean(dim=2)
        return [made]


class ResidualRows:
    """Two convolutions, each after its norm, added to what went in."""

    def __init__(self, block: HunyuanVideo15ResnetBlock) -> None:
        self._block = block
        self._first, self._second = PaddedConvolution(block.conv1), PaddedConvolution(block.conv2)

    def needs(self, rows: Rows) -> Rows:
        return self._first.needs(self._second.needs(rows))

    def __call__(self, frame: Tensor, given: Rows, wanted: Rows) -> list[Tensor]:
        between = self._second.needs(wanted)
        made = self._first.of(activated(self._block.norm1, frame), given, between)
        made = activated(self._block.norm2, made)
        made = self._second.of(made, between, wanted)
        frame, shortcut = frame[:, :, wanted.within(given)], self._block.conv_shortcut
        return [
            made + (frame if shortcut is None else functional.conv2d(frame, shortcut.weight[:, :, 0], shortcut.bias))
        ]


class CausalAttention:
    """Attention of every pixel to those of its own frame and of all before it: it must have all rows, and has room for
    `frames` frames."""

    def __init__(self, block: HunyuanVideo15AttnBlock, frames: int) -> None:
        self._block, self._frames, self._number = block, frames, 0
        self._keys: Tensor | None = None
        self._values: Tensor | None = None

    def needs(self, rows: Rows) -> Rows:
        return Rows(0, rows.height, rows.height)

    def __call__(self, frame: Tensor, given: Rows, wanted: Rows) -> list[Tensor]:
        block, pixels = self._block, frame.shape[2] * frame.shape[3]
        normed = block.norm(frame.unsqueeze(2))
        query, key, value = (layer(normed).flatten(2).transpose(1, 2) for layer in (block.to_q, block.to_k, block.to_v))
        del normed
        if self._keys is None or self._values is None:
            self._keys, self._values = (key.new_empty(1, self._frames * pixels, key.shape[2]) for _ in range(2))
        begin, end = self._number * pixels, (self._number + 1) * pixels
        self._keys[:, begin:end], self._values[:, begin:end] = key, value
        self._number += 1
        del key, value
        seen = self._keys[:, None, :end], self._values[:, None, :end]
        attended = torch.empty_like(query)
        for part in chunks(pixels, QUERIES):
            attended[:, part] = functional.scaled_dot_product_attention(query[:, None, part], *seen)[:, 0]
        del query, seen
        made = block.proj_out(attended.transpose(1, 2).unflatten(2, frame.shape[2:]).unsqueeze(2))
        return [(made[:, :, 0] + frame)[:, :, wanted.within(given)]]


class Enlarged:
    """Twice the rows and columns, and where the layer does so in time two frames for each but the first."""

    def __init__(self, layer: HunyuanVideo15Upsample) -> None:
        self._layer, self._convolution = layer, PaddedConvolution(layer.conv)
        self._first = True

    def needs(self, rows: Rows) -> Rows:
        return self._convolution.needs(rows.halved())

    def __call__(self, frame: Tensor, given: Rows, wanted: Rows) -> list[Tensor]:
        rows, layer = wanted.halved(), self._layer
        made = self._convolution.of(frame, given, rows).unsqueeze(2)
        frame = frame[:, :, None, rows.within(given)]
        in_time = 2 if layer.add_temporal_upsample and not self._first else 1
        made = layer._dcae_upsample_rearrange(made, in_time, 2, 2)
        if layer.add_temporal_upsample and self._first:  # the channels of the second frame are of none
            made = made[:, : made.shape[1] // 2]
        shortcut = layer._dcae_upsample_rearrange(frame, in_time, 2, 2)
        shortcut = shortcut.repeat_interleave(made.shape[1] // shortcut.shape[1], dim=1)
        self._first = False
        return [one[:, :, wanted.within(rows.times(2))] for one in (made + shortcut).unbind(2)]


class ShrunkPicture:
    """Half the rows and columns of a picture, which is the first frame of a clip."""

    def __init__(self, layer: HunyuanVideo15Downsample) -> None:
        self._layer, self._convolution = layer, PaddedConvolution(layer.conv)

    def needs(self, rows: Rows) -> Rows:
        return self._convolution.needs(rows.times(2))

    def __call__(self, frame: Tensor, given: Rows, wanted: Rows) -> list[Tensor]:
        rows, layer = wanted.times(2), self._layer
        made, frame = self._convolution.of(frame, given, rows), frame[:, :, rows.within(given)]
        made, frame = (layer._dcae_downsample_rearrange(one.unsqueeze(2), 1, 2, 2)[:, :, 0] for one in (made, frame))
        if layer.add_temporal_downsample:
            made = torch.cat([made, made], dim=1)
        return [made + frame.unflatten(1, (made.shape[1], -1)).mean(dim=2)]
