"""HunyuanVideo's autoencoder some frames at a time: within one window the layers at full size hold little more than
what goes in and what comes out.

Its convolutions look back in time only, by two frames, and its group norms at all of a window: their mean and spread
are taken first, some frames at a time. The numbers are diffusers' own to about 1e-6. For the time of a `with` the
forwards of residual blocks, of what changes the size and of the last layers are replaced.
Shapes: (1, C, F, H, W).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from diffusers import AutoencoderKLHunyuanVideo
from diffusers.models.autoencoders.autoencoder_kl_hunyuan_video import (
    HunyuanVideoCausalConv3d,
    HunyuanVideoDecoder3D,
    HunyuanVideoDownsampleCausal3D,
    HunyuanVideoEncoder3D,
    HunyuanVideoResnetBlockCausal3D,
    HunyuanVideoUpsampleCausal3D,
)
from torch import Tensor, nn
from torch.nn import functional

from i2v.memory.chunking import Forward, around_chunks, chunks, group_norm_coefficients, normalised

LEAST = 2
"""Frames that a convolution looks back at: to work on fewer would keep more than is worked on."""

Source = Callable[[slice], Tensor]
"""Some frames of what a convolution is to see."""


@contextmanager
def frame_chunks(vae: AutoencoderKLHunyuanVideo, frames: int) -> Iterator[None]:
    """Run the layers of `vae` over so many frames at a time, at least LEAST; with 0 they keep their own forwards."""
    frames = frames and max(frames, LEAST)
    replaced: list[nn.Module] = []

    def replace(module: nn.Module, forward: Forward) -> None:
        module.forward = around_chunks()(module, forward)
        replaced.append(module)

    try:
        for module in vae.modules() if frames else ():
            if isinstance(module, HunyuanVideoResnetBlockCausal3D):
                replace(module, _residual(module, frames))
            elif isinstance(module, HunyuanVideoUpsampleCausal3D):
                replace(module, _enlarged(module, frames))
            elif isinstance(module, HunyuanVideoDownsampleCausal3D):
                replace(module, _shrunk(module, frames))
            elif isinstance(module, HunyuanVideoEncoder3D | HunyuanVideoDecoder3D):
                last = _last(module, frames)  # made before what it is made of is replaced
                replace(module.conv_norm_out, _as_it_is)
                replace(module.conv_act, _as_it_is)
                replace(module.conv_out, last)
        yield
    finally:
        for module in replaced:
            del module.forward


def _residual(block: nn.Module, size: int) -> Forward:
    def forward(hidden_states: Tensor) -> Tensor:
        hidden_states = hidden_states.contiguous()
        frames = hidden_states.shape[2]
        made = _new(hidden_states, block.conv1, hidden_states.shape[2:])
        seen = _activated(block.norm1, block.nonlinearity, hidden_states, size)
        for part in chunks(frames, size):
            made[:, :, part] = _convolved(block.conv1, seen, part)
        coefficients = _coefficients(block.norm2, made, size)
        before: list[Tensor] = []  # the frames of `made` that the next part looks back at, before they are written over
        for part in chunks(frames, size):
            back = block.conv2.conv.kernel_size[0] - 1
            source = torch.cat([*before, made[:, :, part]], dim=2)
            begin = part.start - (source.shape[2] - (part.stop - part.start))
            before = [source[:, :, -back:].clone()]
            work = block.nonlinearity(_normal(source, coefficients))
            del source

            def seen(wanted: slice, work: Tensor = work, begin: int = begin) -> Tensor:
                return work[:, :, wanted.start - begin : wanted.stop - begin]

            piece = _convolved(block.conv2, seen, part)
            del work, seen
            if block.conv_shortcut is None:
                made[:, :, part] = piece + hidden_states[:, :, part]
            else:
                made[:, :, part] = piece + block.conv_shortcut.conv(hidden_states[:, :, part])
            del piece
        return made

    return forward


def _enlarged(layer: nn.Module, size: int) -> Forward:
    in_time, *in_space = (int(factor) for factor in layer.upsample_factor)

    def forward(hidden_states: Tensor) -> Tensor:
        def seen(wanted: slice) -> Tensor:
            # The first frame stands for itself, every other one for as many as time is stretched by.
            numbers = (0 if number == 0 else 1 + (number - 1) // in_time for number in range(wanted.start, wanted.stop))
            several = torch.stack([hidden_states[:, :, number] for number in numbers], dim=2)
            return functional.interpolate(several, scale_factor=(1, *in_space), mode="nearest")

        frames, height, width = hidden_states.shape[2:]
        sizes = 1 + (frames - 1) * in_time, height * in_space[0], width * in_space[1]
        made = _new(hidden_states, layer.conv, sizes)
        for part in chunks(sizes[0], size):
            made[:, :, part] = _convolved(layer.conv, seen, part)
        return made

    return forward


def _shrunk(layer: nn.Module, size: int) -> Forward:
    def forward(hidden_states: Tensor) -> Tensor:
        strides = layer.conv.conv.stride
        sizes = tuple((side - 1) // stride + 1 for side, stride in zip(hidden_states.shape[2:], strides, strict=True))
        made = _new(hidden_states, layer.conv, sizes)
        for part in chunks(sizes[0], size):
            made[:, :, part] = _convolved(layer.conv, lambda wanted: hidden_states[:, :, wanted], part)
        return made

    return forward


def _last(network: nn.Module, size: int) -> Forward:
    """The last norm, activation and convolution as one."""
    norm, activation = network.conv_norm_out, network.conv_act.forward

    def forward(hidden_states: Tensor) -> Tensor:
        made = _new(hidden_states, network.conv_out, hidden_states.shape[2:])
        seen = _activated(norm, activation, hidden_states, size)
        for part in chunks(hidden_states.shape[2], size):
            made[:, :, part] = _convolved(network.conv_out, seen, part)
        return made

    return forward


def _as_it_is(hidden_states: Tensor) -> Tensor:
    return hidden_states


def _new(like: Tensor, layer: HunyuanVideoCausalConv3d, sizes: tuple[int, ...]) -> Tensor:
    return like.new_empty(like.shape[0], layer.conv.out_channels, *sizes)


def _convolved(layer: HunyuanVideoCausalConv3d, seen: Source, part: slice) -> Tensor:
    """The frames `part` of what `layer` makes of those that `seen` gives; before the first there are copies of it."""
    (reach, *_), (stride, *_) = layer.conv.kernel_size, layer.conv.stride
    begin, end = part.start * stride - (reach - 1), (part.stop - 1) * stride + 1
    source = seen(slice(max(0, begin), end))
    around = *layer.time_causal_padding[:4], max(0, -begin), 0
    padded = functional.pad(source, around, mode=layer.pad_mode) if any(around) else source
    del source
    return layer.conv(padded)


def _activated(norm: nn.GroupNorm, activation: Forward, hidden_states: Tensor, size: int) -> Source:
    coefficients = _coefficients(norm, hidden_states, size)
    return lambda wanted: activation(_normal(hidden_states[:, :, wanted], coefficients))


def _coefficients(norm: nn.GroupNorm, hidden_states: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Group norm over all of a clip as x * scale + shift, some frames at a time."""
    clip = hidden_states[0].transpose(0, 1).flatten(2)  # a view: (F, C, P)
    return group_norm_coefficients(clip, norm, size)


def _normal(frames: Tensor, coefficients: tuple[Tensor, Tensor]) -> Tensor:
    scale, shift = (one[None, :, :, None, None] for one in coefficients)
    return normalised(frames, scale, shift)
