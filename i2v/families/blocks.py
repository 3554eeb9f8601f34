"""The parts of networks that run one after the other, so that their weights can stream (see `memory.streaming`)."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest

from torch import nn


def unet_blocks(unet: nn.Module) -> list[nn.Module]:
    """The layers of a 3D UNet of diffusers' I2VGen-XL or text-to-video blocks, in the order in which it calls them."""
    found: list[nn.Module] = [unet.transformer_in] if hasattr(unet, "transformer_in") else []
    for block in unet.down_blocks:
        found += _turns(block.resnets, block.temp_convs, *_attentions(block))
        found += block.downsamplers or ()
    found += [unet.mid_block.resnets[0], unet.mid_block.temp_convs[0]]
    found += _turns(*_attentions(unet.mid_block), unet.mid_block.resnets[1:], unet.mid_block.temp_convs[1:])
    for block in unet.up_blocks:
        found += _turns(block.resnets, block.temp_convs, *_attentions(block))
        found += block.upsamplers or ()
    return found


def spatio_temporal_blocks(unet: nn.Module) -> list[nn.Module]:
    """The layers of a UNet of Stable Video Diffusion, in the order in which it calls them."""
    found: list[nn.Module] = []
    for block in unet.down_blocks:
        found += _turns(block.resnets, getattr(block, "attentions", ()))
        found += block.downsamplers or ()
    middle = unet.mid_block
    found += [middle.resnets[0], *_turns(middle.attentions, middle.resnets[1:])]
    for block in unet.up_blocks:
        found += _turns(block.resnets, getattr(block, "attentions", ()))
        found += block.upsamplers or ()
    return found


def transformer_blocks(transformer: nn.Module) -> list[nn.Module]:
    """The blocks of a diffusers transformer with two streams of tokens that are joined later."""
    return [*transformer.transformer_blocks, *transformer.single_transformer_blocks]


def encoder_layers(encoder: nn.Module) -> list[nn.Module]:
    """The layers of a transformers encoder of texts or pictures: its one list of them, or that of each network in it,
    which stand there in the order in which they run."""
    lists = [part.layers for part in encoder.modules() if isinstance(getattr(part, "layers", None), nn.ModuleList)]
    return [layer for layers in lists for layer in layers]


def _attentions(block: nn.Module) -> tuple[nn.ModuleList, ...]:
    return (block.attentions, block.temp_attentions) if hasattr(block, "attentions") else ()


def _turns(*lists: Iterable[nn.Module]) -> list[nn.Module]:
    """One of each list in turn."""
    return [layer for turn in zip_longest(*lists) for layer in turn if layer is not None]
