"""LTX-Video's autoencoder: diffusers' own, whose decoder runs in rows as that of LTX-2. From 0.9.1 on it does the last
step of denoising itself: it is given latents with a little noise and told how noisy they are. That of 0.9.1 adds
further noise behind its convolutions, the same for all channels and frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import torch
from diffusers.models.autoencoders.autoencoder_kl_ltx import LTXVideoCausalConv3d
from torch import Tensor, nn

from i2v.families.ltx2.vae import Calls

TIMESTEP, NOISE_SCALE = 0.05, 0.025  # how noisy latents are said to be, and are: as its authors recommend

Noises = Mapping[nn.Module, tuple[Tensor, Tensor]]
"""What a layer adds after its first and after its second convolution, each (H, W) of a whole picture."""


def vae_blocks(vae: nn.Module) -> list[nn.Module]:
    """The layers of the decoder, then those of the encoder. The decoder's last block, which is small and called strip
    by strip, is in none of them."""
    decoder = vae.decoder
    found = [*decoder.mid_block.resnets]
    for block in decoder.up_blocks[:-1]:
        found += [] if block.conv_in is None else [block.conv_in]
        found += [*(block.upsamplers or ()), *block.resnets]
    return found + [layer for layer in vae.encoder.modules() if isinstance(layer, LTXVideoCausalConv3d)]


def noises(decoder: nn.Module, height: int, width: int, generator: torch.Generator) -> Noises:
    """Those for latents of this size, drawn in the order in which they are needed."""
    return {
        resnet: (_drawn(height * times, width * times, generator), _drawn(height * times, width * times, generator))
        for resnet, times in _resnets(decoder)
        if resnet.per_channel_scale1 is not None
    }


def _drawn(height: int, width: int, generator: torch.Generator) -> Tensor:
    return torch.randn(height, width, generator=generator)


def _resnets(decoder: nn.Module) -> Iterator[tuple[nn.Module, int]]:
    """All of them in order, and how many of their rows come from one of the latents."""
    yield from ((resnet, 1) for resnet in decoder.mid_block.resnets)
    times = 1
    for block in decoder.up_blocks:
        if block.conv_in is not None:
            yield block.conv_in, times
        for upsampler in block.upsamplers or ():
            times *= upsampler.stride[1]
        yield from ((resnet, times) for resnet in block.resnets)


class LtxCalls(Calls):
    """How the layers of a decoder are called. `timestep` (1,): how noisy the latents are; None where it is not told.
    `added`: the noise of those layers that add some, where the latents are."""

    def __init__(self, decoder: nn.Module, timestep: Tensor | None, added: Noises) -> None:
        super().__init__(decoder)
        self._added = added
        self._embedded: dict[nn.Module, Tensor] = {}
        self._last: Tensor | None = None
        if timestep is not None:
            timestep = timestep * decoder.timestep_scale_multiplier
            for block in (decoder.mid_block, *decoder.up_blocks):
                known = _embedded(block.time_embedder, timestep)
                self._embedded |= dict.fromkeys(block.resnets, known)
            self._last = _embedded(decoder.time_embedder, timestep)

    def first(self, latents: Tensor) -> Tensor:
        return self._decoder.conv_in(latents)

    def resnet(self, resnet: nn.Module, given: Tensor, row: int) -> Tensor:
        embedded = self._embedded.get(resnet)
        if resnet not in self._added:
            return resnet(given, embedded)
        resnet.forward = partial(_noisy, resnet, [one[row : row + given.shape[3]] for one in self._added[resnet]])
        try:
            return resnet(given, embedded)
        finally:
            del resnet.forward

    def enlarged(self, upsampler: nn.Module, given: Tensor) -> Tensor:
        return upsampler(given)

    def last(self, given: Tensor) -> Tensor:
        decoder = self._decoder
        made = _by_channel(decoder.norm_out, given)
        if self._last is not None:
            shift, scale = _modulations(decoder.scale_shift_table, self._last)
            made = made * (1 + scale) + shift
        return decoder.conv_out(decoder.conv_act(made))


def _embedded(embedder: nn.Module, timestep: Tensor) -> Tensor:
    """(1, n, 1, 1, 1)"""
    known = embedder(timestep=timestep, resolution=None, aspect_ratio=None, batch_size=1, hidden_dtype=timestep.dtype)
    return known.view(1, -1, 1, 1, 1)


def _modulations(table: Tensor, embedded: Tensor) -> tuple[Tensor, ...]:
    """As many (1, C, 1, 1, 1) as `table` has rows."""
    return (embedded.unflatten(1, (len(table), -1)) + table[None, ..., None, None, None]).unbind(1)


def _by_channel(norm: nn.Module, hidden: Tensor) -> Tensor:
    return norm(hidden.movedim(1, -1)).movedim(-1, 1)


def _noisy(resnet: nn.Module, added: list[Tensor], given: Tensor, embedded: Tensor | None) -> Tensor:
    """What a layer makes of some rows that adds this noise (h, W) to them. diffusers' own draws it anew each time."""
    modulations = None if embedded is None else _modulations(resnet.scale_shift_table, embedded)
    made = given
    layers = (
        (resnet.norm1, resnet.conv1, resnet.per_channel_scale1), (resnet.norm2, resnet.conv2, resnet.per_channel_scale2)
    )  # fmt: skip
    for number, (norm, convolution, scales) in enumerate(layers):
        made = _by_channel(norm, made)
        if modulations is not None:
            shift, scale = modulations[2 * number : 2 * number + 2]
            made = made * (1 + scale) + shift
        made = convolution(resnet.nonlinearity(made))
        made = made + (added[number] * scales)[None, :, None]
    if resnet.conv_shortcut is not None:
        given = resnet.conv_shortcut(_by_channel(resnet.norm3, given))
    return made + given
