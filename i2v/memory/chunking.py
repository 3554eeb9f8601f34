"""Exact chunking of diffusers' 3D UNets: the same numbers in a fraction of the memory.

Layers that treat every frame alone run a few frames at a time; layers that treat every pixel alone run a few
pixels at a time. Two kinds of layer look over all frames and pixels at once, in their group norms
(`TransformerTemporalModel.norm`, four in `TemporalConvLayer`): their statistics are taken first, over everything,
then applied chunk by chunk. Taking them per chunk instead would be off by 1e-3; this way it is 1e-7.

diffusers' own blocks keep the wiring; only the forward of their parts is replaced, for the time of a `with`. The one
exception is the up blocks, which join a skip connection to their input as a whole: here that is done frame by frame,
which takes a third off the highest point of the whole UNet.
Shapes: B batch, F frames, C channels, P = H*W pixels; diffusers passes (B*F, C, H, W) everywhere.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from diffusers.models.resnet import Downsample2D, ResnetBlock2D, TemporalConvLayer, Upsample2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from diffusers.models.unets.unet_3d_blocks import CrossAttnUpBlock3D, UpBlock3D
from diffusers.models.unets.unet_i2vgen_xl import I2VGenXLTransformerTemporalEncoder
from torch import Tensor, nn
from torch.nn import functional

Forward = Callable[..., Any]
Around = Callable[[nn.Module, Forward], Forward]

MOST_ROWS = 65_535
"""Rows of a batch that attention takes at once on a card: flash attention counts them in the second dimension of a
CUDA grid, which ends there (CUDA C++ Programming Guide, technical specifications), and does not look before."""

_PER_FRAME = (ResnetBlock2D, Transformer2DModel, Downsample2D, Upsample2D)


@dataclass(frozen=True)
class ChunkSizes:
    """How many frames, and how many latent pixels, a layer may treat at once; 0 means all.

    `pixels` holds for layers of the UNet's first width; a layer n times as wide takes 1/n as many, so that a chunk
    weighs the same everywhere."""

    frames: int = 0
    pixels: int = 0


_sampling: ContextVar[bool] = ContextVar("sampling", default=False)
_repeats: ContextVar[int] = ContextVar("repeats", default=1)
_around: ContextVar[Around] = ContextVar("around", default=lambda module, forward: forward)


def chunks(total: int, size: int) -> Iterator[slice]:
    """Slices of at most `size` that cover `total`; one slice where size is 0. Every chunk loop goes through here."""
    starts = range(0, total, size or total)
    if not _sampling.get() or len(starts) <= 3:
        for start in starts:
            yield slice(start, min(start + (size or total), total))
        return
    outer = _repeats.get()
    for start, times in ((starts[0], 1), (starts[1], len(starts) - 2), (starts[-1], 1)):
        _repeats.set(outer * times)
        yield slice(start, min(start + size, total))
    _repeats.set(outer)


def repeats() -> int:
    """While chunks are sampled: how many times the work done now would be done if they all ran."""
    return _repeats.get()


def around_chunks() -> Around:
    """What is to be put around the forward of a layer that is made to run in chunks; see `sampled_chunks`."""
    return _around.get()


@contextlib.contextmanager
def sampled_chunks(around: Around = lambda module, forward: forward) -> Iterator[None]:
    """For counting on fake tensors: every chunk loop runs only its first, second and last chunk, and `around` is put
    around the forward of every layer that runs in chunks.

    A chunk like the one before it reaches the same height, so the peak is that of the whole loop; the second one's
    work counts for all it stands for, see `repeats`."""
    sampling, wrapping = _sampling.set(True), _around.set(around)
    try:
        yield
    finally:
        _sampling.reset(sampling)
        _around.reset(wrapping)
        _repeats.set(1)


@contextlib.contextmanager
def exact_chunks(unet: nn.Module, sizes: ChunkSizes) -> Iterator[None]:
    """Run `unet` in chunks for the time of the `with`; any 3D UNet built of diffusers' I2VGen-XL or text-to-video
    blocks. Layers whose size is 0 keep diffusers' own forward, but for convolutions over time, and for attention over
    time beyond `MOST_ROWS` pixels: that runs in chunks whatever the sizes say."""
    replaced: list[nn.Module] = []
    flattened: list[nn.Conv3d] = []
    try:
        for module in unet.modules():
            if isinstance(module, nn.Conv3d) and _over_time_alone(module):
                module._conv_forward = partial(_flat_convolution, module)
                flattened.append(module)
                continue
            chunked = _chunked_forward(module, sizes, unet.config.block_out_channels[0])
            if chunked is not None:
                module.forward = around_chunks()(module, chunked)
            elif isinstance(module, TransformerTemporalModel | I2VGenXLTransformerTemporalEncoder):
                module.forward = _within_the_grid(module)
            else:
                continue
            replaced.append(module)
        yield
    finally:
        for module in replaced:
            del module.forward
        for module in flattened:
            del module._conv_forward


def _chunked_forward(module: nn.Module, sizes: ChunkSizes, width: int) -> Forward | None:
    if sizes.frames and isinstance(module, _PER_FRAME):
        return by_rows(module.forward, sizes.frames)
    if sizes.frames and isinstance(module, UpBlock3D | CrossAttnUpBlock3D):
        return _up_block(module, sizes.frames)
    if sizes.pixels and isinstance(module, I2VGenXLTransformerTemporalEncoder):
        return by_rows(module.forward, min(sizes.pixels, MOST_ROWS))
    if sizes.pixels and isinstance(module, TransformerTemporalModel):
        size = scaled(sizes.pixels, width, module.proj_in.out_features)
        return _temporal_transformer(module, min(size, MOST_ROWS))
    if sizes.pixels and isinstance(module, TemporalConvLayer):
        return _temporal_conv(module, scaled(sizes.pixels, width, module.in_dim))
    return None


def _over_time_alone(convolution: nn.Conv3d) -> bool:
    beside = (convolution.kernel_size[1:], convolution.padding[1:], convolution.stride, convolution.dilation)
    return beside == ((1, 1), (0, 0), (1, 1, 1), (1, 1, 1)) and convolution.padding_mode == "zeros"


def _flat_convolution(convolution: nn.Conv3d, hidden_states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """In place of the layer's own `_conv_forward`: (B, C, F, H, W) seen as (B, C, F, H*W)."""
    padding = (convolution.padding[0], 0)
    result = functional.conv2d(
        hidden_states.flatten(3), weight[..., 0], bias, padding=padding, groups=convolution.groups
    )
    return result.unflatten(3, hidden_states.shape[3:])


def _within_the_grid(module: nn.Module) -> Forward:
    """The layer's own forward, in chunks where its rows are more than a card's grid has."""
    forward = module.forward
    per_clip = isinstance(module, TransformerTemporalModel)  # (B*F, C, H, W), of which B*H*W rows are made
    chunked = _temporal_transformer(module, MOST_ROWS) if per_clip else by_rows(forward, MOST_ROWS)

    def run(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        rows = hidden_states.shape[0]
        if per_clip:
            rows = rows // kwargs.get("num_frames", 1) * hidden_states.shape[2] * hidden_states.shape[3]
        return (forward if rows <= MOST_ROWS else chunked)(hidden_states, *args, **kwargs)

    return run


def scaled(pixels: int, width: int, layer_width: int) -> int:
    """As many pixels of a layer so wide as weigh what `pixels` of a layer `width` wide do; 0 stays all."""
    return max(1, pixels * width // layer_width) if pixels else 0


def by_rows(forward: Forward, size: int) -> Forward:
    """A forward over `size` rows of the batch dimension at a time; every tensor argument with as many rows is cut."""

    def run(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        rows = hidden_states.shape[0]
        output: Tensor | None = None
        for part in chunks(rows, size):

            def cut(value: Any, part: slice = part) -> Any:
                return value[part] if isinstance(value, Tensor) and value.shape[0] == rows else value

            result = forward(
                hidden_states[part], *(cut(value) for value in args), **{key: cut(v) for key, v in kwargs.items()}
            )
            sample = result[0] if isinstance(result, tuple) else result
            if output is None:
                output = sample.new_empty((rows, *sample.shape[1:]))
            output[part] = sample
            del sample
        return (output,) if isinstance(result, tuple) else output

    return run


def _up_block(module: UpBlock3D | CrossAttnUpBlock3D, size: int) -> Forward:
    """The block's own order of parts, with the skip joined to a few frames at a time."""
    spatial = getattr(module, "attentions", None) or (None,) * len(module.resnets)
    temporal = getattr(module, "temp_attentions", None) or (None,) * len(module.resnets)

    def run(
        hidden_states: Tensor,
        res_hidden_states_tuple: tuple[Tensor, ...],
        temb: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        upsample_size: int | None = None,
        num_frames: int = 1,
        **_: Any,
    ) -> Tensor:
        skips = reversed(res_hidden_states_tuple)
        for resnet, temp_conv, attention, temp_attention in zip(
            module.resnets, module.temp_convs, spatial, temporal, strict=True
        ):
            hidden_states = _join_and_run(resnet, hidden_states, next(skips), temb, size)
            hidden_states = temp_conv(hidden_states, num_frames=num_frames)
            if attention is not None:
                hidden_states = attention(
                    hidden_states, encoder_hidden_states=encoder_hidden_states, return_dict=False
                )[0]
                hidden_states = temp_attention(hidden_states, num_frames=num_frames, return_dict=False)[0]
        for upsampler in module.upsamplers or ():
            hidden_states = upsampler(hidden_states, upsample_size)
        return hidden_states

    return run


def _join_and_run(resnet: ResnetBlock2D, hidden_states: Tensor, skip: Tensor, temb: Tensor | None, size: int) -> Tensor:
    rows, _, *pixels = hidden_states.shape
    output = hidden_states.new_empty((rows, resnet.out_channels, *pixels))
    for part in chunks(rows, size):
        joined = torch.cat([hidden_states[part], skip[part]], dim=1)
        output[part] = resnet(joined, None if temb is None else temb[part])
    return output


def _temporal_transformer(module: TransformerTemporalModel, size: int) -> Forward:
    def run(
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        num_frames: int = 1,
        cross_attention_kwargs: dict[str, Any] | None = None,
        return_dict: bool = False,
        **_: Any,
    ) -> tuple[Tensor]:
        hidden_states = hidden_states.contiguous()
        output = torch.empty_like(hidden_states)
        for clip, out in zip(_clips(hidden_states, num_frames), _clips(output, num_frames), strict=True):
            scale, shift = group_norm_coefficients(clip, module.norm, frames_like(clip, size))
            for part in chunks(clip.shape[2], size):
                tokens = normalised(clip[:, :, part], scale, shift).permute(2, 0, 1)  # (p, F, C)
                tokens = module.proj_in(tokens)
                for block in module.transformer_blocks:
                    tokens = block(
                        tokens,
                        encoder_hidden_states=encoder_hidden_states,
                        cross_attention_kwargs=cross_attention_kwargs,
                    )
                tokens = module.proj_out(tokens).permute(1, 2, 0)
                torch.add(tokens, clip[:, :, part], out=tokens)
                out[:, :, part] = tokens
                del tokens
        return (output,)

    return run


def _temporal_conv(module: TemporalConvLayer, size: int) -> Forward:
    layers = (module.conv1, module.conv2, module.conv3, module.conv4)

    def run(hidden_states: Tensor, num_frames: int = 1) -> Tensor:
        hidden_states = hidden_states.contiguous()
        output = torch.empty_like(hidden_states)
        for clip, out in zip(_clips(hidden_states, num_frames), _clips(output, num_frames), strict=True):
            source = clip
            for layer in layers:
                norm, *rest, conv = layer
                scale, shift = group_norm_coefficients(source, norm, frames_like(clip, size))
                for part in chunks(clip.shape[2], size):
                    work = normalised(source[:, :, part], scale, shift)
                    for inner in rest:
                        work = inner(work)
                    # The kernel spans three frames and one pixel, so a chunk may overwrite its own place.
                    work = conv(work.permute(1, 0, 2).unsqueeze(0).unsqueeze(-1))  # (1, C, F, p, 1)
                    out[:, :, part] = work[0, :, :, :, 0].permute(1, 0, 2)
                    del work
                source = out
            for part in chunks(clip.shape[2], size):
                out[:, :, part] += clip[:, :, part]
        return output

    return run


def _clips(hidden_states: Tensor, num_frames: int) -> Tensor:
    """(B*F, C, H, W) seen as (B, F, C, P), without a copy."""
    return hidden_states.view(-1, num_frames, hidden_states.shape[1], hidden_states.shape[2] * hidden_states.shape[3])


def frames_like(clip: Tensor, pixels: int) -> int:
    """As many whole frames of `clip` (F, C, P) as hold the elements of a chunk of `pixels`: contiguous reads, the same
    memory."""
    return max(1, pixels * clip.shape[0] // clip.shape[2])


def group_norm_coefficients(clip: Tensor, norm: nn.GroupNorm, frames_at_once: int) -> tuple[Tensor, Tensor]:
    """Group norm over all of `clip` (F, C, P) as y = x * scale + shift, both (C, 1) float32.

    Mean and spread are taken in float32, a few frames at a time, and joined by the pairwise formula of Chan, Golub
    and LeVeque (1979), which does not lose digits as a plain sum of squares does.
    """
    seen = GroupStatistics(norm, clip)
    for part in chunks(clip.shape[0], frames_at_once):
        seen.add(clip[part])
    return seen.coefficients()


class GroupStatistics:
    """Mean and spread of the groups of `norm`, of blocks (F, C, p) like `clip`, that come one after the other."""

    def __init__(self, norm: nn.GroupNorm, clip: Tensor) -> None:
        self._norm = norm
        self._count = 0
        self._mean = clip.new_zeros(norm.num_groups, dtype=torch.float32)
        self._spread = clip.new_zeros(norm.num_groups, dtype=torch.float32)

    def add(self, block: Tensor) -> None:
        """See one more block."""
        frames, channels, pixels = block.shape
        groups = self._norm.num_groups
        block = block.reshape(frames, groups, channels // groups * pixels).float()
        block_count = block.shape[0] * block.shape[2]
        block_var, block_mean = torch.var_mean(block, dim=(0, 2), correction=0)
        del block
        total = self._count + block_count
        delta = block_mean - self._mean
        self._mean = self._mean + delta * (block_count / total)
        self._spread = self._spread + block_var * block_count + delta.square() * (self._count * block_count / total)
        self._count = total

    def coefficients(self) -> tuple[Tensor, Tensor]:
        """Scale and shift, both (C, 1) float32, of all that was seen."""
        repeats = self._norm.num_channels // self._norm.num_groups
        inverse_std = torch.rsqrt(self._spread / self._count + self._norm.eps)
        scale = inverse_std.repeat_interleave(repeats)
        shift = -self._mean.repeat_interleave(repeats) * scale
        if self._norm.affine:
            weight = self._norm.weight.float()
            scale, shift = scale * weight, shift * weight + self._norm.bias.float()
        return scale.unsqueeze(1), shift.unsqueeze(1)


def normalised(block: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """`block` (F, C, p) normalised in float32 and rounded once, as torch's own kernels do."""
    return torch.addcmul(shift, block.float(), scale).to(block.dtype)
