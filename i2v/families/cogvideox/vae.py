"""CogVideoX's decoder, as diffusers runs it: two latent frames after the other, with three in the first batch where
they are odd, and what convolutions remember of the frames before. The numbers are its own.

Its group norms look at all of a batch, so that rows can not be decoded by themselves. Here a norm takes its statistics
first; then a few frames at a time are normalised, in strips of rows, and convolved, so that of all that diffusers holds
of a batch two layers' outputs are left. What a norm adds of the latents is made for their own size and enlarged where
it is added. The last layer that enlarges is run anew whenever its frames are looked at, as they are four times as large
as what it is given. Where frames are decoded one at a time, what convolutions remember waits on the host for the next
batch.

Shapes: a clip is (1, C, F, H, W).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from diffusers import AutoencoderKLCogVideoX
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import (
    CogVideoXCausalConv3d,
    CogVideoXResnetBlock3D,
    CogVideoXSpatialNorm3D,
)
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.models.upsampling import CogVideoXUpsample3D
from torch import Tensor, nn
from torch.nn import functional

from i2v.families.pixels import to_bytes
from i2v.memory.card import Card
from i2v.memory.chunking import Forward, GroupStatistics, chunks, normalised
from i2v.memory.tokens import token_chunks

Take = Callable[[slice, Tensor], None]
"""Handed some frames, and what was made of them."""
Fill = Callable[[slice, Tensor], None]
"""Puts some frames into a tensor."""

STRIPS = 4  # of rows, in which a picture is enlarged, normalised and looked at


@dataclass
class _Clip:
    """`count` frames of `size` (H, W); `get` gives some of their rows, perhaps made anew; `whole` is all of them where
    they are in memory."""

    count: int
    size: tuple[int, ...]
    get: Callable[[slice, slice], Tensor]
    whole: Tensor | None = None

    @classmethod
    def of(cls, whole: Tensor) -> _Clip:
        return cls(whole.shape[2], whole.shape[3:], lambda part, rows: whole[:, :, part, rows], whole)

    def release(self) -> None:
        """It is not looked at any more."""
        self.whole = None
        del self.get


@dataclass
class _Decoding:
    """The decoding of latents with so many `rows`: frames at once (0: all of a batch), and what each convolution was
    last given, on the host where `at_once` is 1."""

    card: Card
    rows: int
    at_once: int
    remembered: dict[nn.Module, Tensor] = field(default_factory=dict)

    def strips(self, clip: _Clip) -> Iterator[slice]:
        """Of rows, each those of whole latents."""
        return chunks(clip.size[0], -(-self.rows // STRIPS) * (clip.size[0] // self.rows))

    def parts(self, clip: _Clip) -> Iterator[tuple[slice, slice]]:
        """Frames and rows of all of it."""
        return ((part, rows) for part in chunks(clip.count, self.at_once) for rows in self.strips(clip))

    def convolve(self, layer: CogVideoXCausalConv3d, clip: _Clip, fill: Fill, take: Take) -> None:
        """Hand `take` what `layer` makes of the frames that `fill` puts, as many as `clip` has, which follow those of
        the batch before."""
        back, before = layer.time_kernel_size - 1, self.remembered.pop(layer, None)
        like = layer.conv.weight
        given = like.new_empty(1, layer.conv.in_channels, back + (self.at_once or clip.count), *clip.size)
        for part in chunks(clip.count, self.at_once):
            count = part.stop - part.start
            fill(part, given[:, :, back : back + count])
            if part.start == 0:
                first = given[:, :, back : back + 1] if before is None else before
                given[:, :, :back] = self.card.to_card(first) if first is before else first
                del first, before
            take(part, layer.conv(given[:, :, : back + count]))
            for place in range(back):
                given[:, :, place] = given[:, :, count + place]
        last = given[:, :, :back]
        self.remembered[layer] = self.card.to_host(last) if self.at_once == 1 else last.clone()

    def all_of(self, layer: CogVideoXCausalConv3d, clip: _Clip, fill: Fill) -> Tensor:
        """What `layer` makes of it, in one tensor."""
        made = layer.conv.weight.new_empty(1, layer.conv.out_channels, clip.count, *clip.size)

        def put(part: slice, frames: Tensor) -> None:
            made[:, :, part] = frames

        self.convolve(layer, clip, fill, put)
        return made

    def activated(self, norm: CogVideoXSpatialNorm3D, act: nn.Module, clip: _Clip, latents: Tensor) -> Fill:
        """The frames of `clip` normalised by all of them, moved by the latents, activated."""
        scale, shift = (one[None, :, :, None, None] for one in self._statistics(norm.norm_layer, clip))
        times, more = norm.conv_y.conv(latents), norm.conv_b.conv(latents)
        places = _places(clip.count, latents.shape[2])

        def enlarged(of_latents: Tensor, part: slice, rows: slice) -> Tensor:
            times = clip.size[0] // self.rows
            rows = slice(rows.start // times, rows.stop // times)
            some = torch.stack([of_latents[:, :, place, rows] for place in places[part]], dim=2)
            return functional.interpolate(some, size=(some.shape[2], times * some.shape[3], clip.size[1]))

        def fill(part: slice, out: Tensor) -> None:
            for rows in self.strips(clip):
                made = normalised(clip.get(part, rows), scale, shift) * enlarged(times, part, rows)
                out[:, :, :, rows] = act(made + enlarged(more, part, rows))
                del made

        return fill

    def _statistics(self, norm: nn.GroupNorm, clip: _Clip) -> tuple[Tensor, Tensor]:
        """Scale and shift, both (C, 1), of all frames."""
        seen: GroupStatistics | None = None
        for part, rows in self.parts(clip):
            block = clip.get(part, rows)[0].transpose(0, 1).flatten(2)
            seen = seen or GroupStatistics(norm, block)
            seen.add(block)
            del block
        assert seen is not None
        return seen.coefficients()

    def resnet(self, resnet: CogVideoXResnetBlock3D, clip: _Clip, latents: Tensor) -> _Clip:
        """The block over all of `clip`, in its place where that is in memory and as wide."""
        act, narrower = resnet.nonlinearity, resnet.in_channels != resnet.out_channels
        made = self.all_of(resnet.conv1, clip, self.activated(resnet.norm1, act, clip, latents))
        target = clip.whole
        if target is None or narrower:
            target = torch.empty_like(made)
            for part, rows in self.parts(clip):
                given = clip.get(part, rows)
                target[:, :, part, rows] = resnet.conv_shortcut(given) if narrower else given
                del given
            clip.release()

        def add(part: slice, added: Tensor) -> None:
            target[:, :, part] += added

        between = _Clip.of(made)
        self.convolve(resnet.conv2, between, self.activated(resnet.norm2, act, between, latents), add)
        return _Clip.of(target)

    def enlarged(self, upsampler: CogVideoXUpsample3D, clip: _Clip) -> _Clip:
        """Twice as high and wide; and, if the layer does that, twice as many frames, but for the first of an odd
        number."""

        def larger(part: slice, rows: slice) -> Tensor:
            above = max(rows.start // 2 - 1, 0)
            frames = clip.get(part, slice(above, rows.stop // 2 + 1))[0].transpose(0, 1)
            frames = upsampler.conv(functional.interpolate(frames, scale_factor=2.0))
            return frames[:, :, rows.start - 2 * above : rows.stop - 2 * above].transpose(0, 1).unsqueeze(0)

        found = _Clip(clip.count, tuple(2 * side for side in clip.size), larger)
        if not upsampler.compress_time or clip.count == 1:
            return found
        odd = clip.count % 2
        made = upsampler.conv.weight.new_empty(1, upsampler.conv.out_channels, 2 * clip.count - odd, *found.size)
        for part, rows in self.parts(found):
            frames = larger(part, rows)
            for number in range(part.start, part.stop):
                first = max(2 * number - odd, 0)
                made[:, :, first : 2 * (number + 1) - odd, rows] = frames[:, :, number - part.start, None]
            del frames
        return _Clip.of(made)


def _places(frames: int, latents: int) -> list[int]:
    """Which latent frame each of `frames` is made of: where they are odd, the first has one of its own."""
    if frames > 1 and frames % 2:
        return [0, *(1 + place * (latents - 1) // (frames - 1) for place in range(frames - 1))]
    return [place * latents // frames for place in range(frames)]


def _batch(decoder: nn.Module, latents: Tensor, decoding: _Decoding) -> Tensor:
    """The pictures of one batch of latents."""
    clip = _Clip.of(latents)
    clip = _Clip.of(decoding.all_of(decoder.conv_in, clip, lambda part, out: out.copy_(latents[:, :, part])))
    for resnet in decoder.mid_block.resnets:
        clip = decoding.resnet(resnet, clip, latents)
    for block in decoder.up_blocks:
        for resnet in block.resnets:
            clip = decoding.resnet(resnet, clip, latents)
        for upsampler in block.upsamplers or ():
            clip = decoding.enlarged(upsampler, clip)
    return decoding.all_of(
        decoder.conv_out, clip, decoding.activated(decoder.norm_out, decoder.conv_act, clip, latents)
    )


def decoded(card: Card, vae: AutoencoderKLCogVideoX, latents: Tensor, at_once: int) -> Iterator[Tensor]:
    """Clips of pictures, one after the other, of latents (1, C, f, h, w)."""
    decoding, first = _Decoding(card, latents.shape[3], at_once), 2 + latents.shape[2] % 2
    for part in (slice(0, first), *_rest(latents.shape[2], first)):
        given = latents[:, :, part]
        if vae.post_quant_conv is not None:
            given = vae.post_quant_conv(given)
        yield _batch(vae.decoder, given, decoding)


def _rest(frames: int, first: int) -> Iterator[slice]:
    for part in chunks(frames - first, 2):
        yield slice(first + part.start, first + part.stop)


def frames_of(card: Card, vae: AutoencoderKLCogVideoX, latents: Tensor, at_once: int) -> Iterator[Tensor]:
    """The frames of latents (1, C, f, h, w), in order, each (H, W, 3) uint8 on the host."""
    for clip in decoded(card, vae, latents, at_once):
        for picture in clip[0].transpose(0, 1):
            yield card.to_host(to_bytes(picture / 2 + 0.5))
        del clip


def of_a_picture(vae: AutoencoderKLCogVideoX, picture: Tensor) -> DiagonalGaussianDistribution:
    """What the latents of a picture (1, 3, 1, H, W) are drawn from. Its convolutions have nothing to remember."""
    with token_chunks(vae.encoder, {CogVideoXCausalConv3d: _forgetful}, 0):
        return vae.encode(picture).latent_dist


def _forgetful(layer: CogVideoXCausalConv3d, _size: int) -> Forward:
    def forward(inputs: Tensor, conv_cache: Tensor | None = None) -> tuple[Tensor, None]:
        return layer.conv(layer.fake_context_parallel_forward(inputs)), None

    return forward
