"""Weights stored in eight bits: half the bytes of a half-precision model, and not quite its picture. And convolutions
computed in float32 where a card computes them wrongly in half precision.

A stored layer keeps its weight as float8 (e4m3) or int8 with one scale for each output channel, and widens it to the
input's type for the time of its own forward, so that one layer's full weight exists at a time. Biases, norms,
embeddings and a network's first and last layers stay as they are: they weigh little and err most.

diffusers' `enable_layerwise_casting` does not serve here: it swaps parameters through `module.to`, before and after
each forward. Fake tensors hold weak references to the parameters that go, so it has no dry run; a card's host copies
would be of parameters that are no more; and it has no scales.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from i2v.plan import Weights

# As diffusers' default_skip_modules_pattern, with the first and last convolutions and the time embeddings of its UNets.
KEPT = re.compile(r"norm|embed|^conv_in\b|^conv_out\b|^proj_in\b|^proj_out\b")
STORAGE = {"float8": torch.float8_e4m3fn, "int8": torch.int8}
LARGEST = {"float8": torch.finfo(torch.float8_e4m3fn).max, "int8": 127.0}


class StoredLinear(nn.Linear):
    """A linear layer whose weight is stored; `weight_scale` (out, 1) float32."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.linear(input, widened(self.weight, self.weight_scale, input.dtype), self.bias)


class StoredConv2d(nn.Conv2d):
    """A convolution whose weight is stored; `weight_scale` (out, 1, 1, 1) float32. `in_float32`: computed so."""

    in_float32: ClassVar[bool] = False

    def forward(self, input: Tensor) -> Tensor:
        dtype = torch.float32 if self.in_float32 else input.dtype
        return _convolved(self, input, dtype, lambda: widened(self.weight, self.weight_scale, dtype))


class StoredConv3d(nn.Conv3d):
    """A convolution whose weight is stored; `weight_scale` (out, 1, 1, 1, 1) float32. `in_float32`: computed so."""

    in_float32: ClassVar[bool] = False

    def forward(self, input: Tensor) -> Tensor:
        dtype = torch.float32 if self.in_float32 else input.dtype
        return _convolved(self, input, dtype, lambda: widened(self.weight, self.weight_scale, dtype))


class WideConv2d(nn.Conv2d):
    """A convolution computed in float32, with its weight and between its neighbours in half precision."""

    def forward(self, input: Tensor) -> Tensor:
        return _convolved(self, input, torch.float32, self.weight.float)


class WideConv3d(nn.Conv3d):
    """A convolution computed in float32, with its weight and between its neighbours in half precision."""

    def forward(self, input: Tensor) -> Tensor:
        return _convolved(self, input, torch.float32, self.weight.float)


STORED: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: StoredLinear,
    nn.Conv2d: StoredConv2d,
    nn.Conv3d: StoredConv3d,
}


IN_FLOAT32: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: WideConv2d,
    nn.Conv3d: WideConv3d,
    StoredConv2d: type("WideStoredConv2d", (StoredConv2d,), {"in_float32": True}),
    StoredConv3d: type("WideStoredConv3d", (StoredConv3d,), {"in_float32": True}),
}


def widen_convolutions(module: nn.Module) -> None:
    """Have `module`'s convolutions computed in float32, one layer's weight and input wide at a time. To be called after
    `store_weights`. In float32 nothing changes."""
    for layer in module.modules():
        layer.__class__ = IN_FLOAT32.get(type(layer), layer.__class__)


def store_weights(module: nn.Module, weights: Weights) -> None:
    """Store the weights of `module`'s linear and convolution layers, on the host and for good; nothing happens for
    "full" and for layers that are stored already. Afterwards the module is placed and evicted as any other."""
    if weights == "full":
        return
    for name, layer in module.named_modules():
        stored = STORED.get(type(layer))
        if stored is None or KEPT.search(name):
            continue
        weight, scale = narrowed(layer.weight.data, weights)
        layer.weight = nn.Parameter(weight, requires_grad=False)
        layer.register_buffer("weight_scale", scale)
        # The layer changes class and keeps all else, as in torch's own `parametrize`; but every layer gets the same
        # class, so that the dry run sees which layers are alike.
        layer.__class__ = stored


def narrowed(weight: Tensor, weights: Weights) -> tuple[Tensor, Tensor]:
    """`weight` (out, ...) as it is stored, and its scale (out, 1, ...) float32: each output channel's largest value
    becomes the largest that the storage can hold. int8 is rounded to the nearest, float8 by torch's own cast."""
    wide = weight.float()
    largest = wide.abs().amax(dim=tuple(range(1, wide.ndim)), keepdim=True)
    scale = torch.where(largest > 0, largest / LARGEST[weights], 1.0)
    scaled = wide / scale
    if weights == "int8":
        scaled = scaled.round()
    return scaled.to(STORAGE[weights]), scale


def widened(weight: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """The weight to compute with. Both storages' values are exact in `dtype`; the product is rounded once."""
    return weight.to(dtype).mul_(scale)


def _convolved(layer: nn.Conv2d | nn.Conv3d, input: Tensor, dtype: torch.dtype, weight: Callable[[], Tensor]) -> Tensor:
    """The layer's convolution of `input` computed in `dtype`, in the input's own."""
    bias = None if layer.bias is None else layer.bias.to(dtype)
    return layer._conv_forward(input.to(dtype), weight(), bias).to(input.dtype)
