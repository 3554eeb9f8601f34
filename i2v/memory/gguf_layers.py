"""Linear layers whose weights lie as a GGUF file has them, in blocks of a few bits a number, and are widened for the
time of their own forward, so that one layer's full weight exists at a time.

Widened by diffusers' own functions, number for number its `GGUFLinear`. That one keeps weights in a class of tensors
of its own, which fake tensors cannot be, so that it has no dry run; here they are plain bytes, and the layer knows of
which kind they are.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional


class GgufLinear(nn.Linear):
    """`weight`: (out, bytes of a row) uint8, in blocks of the GGML type with the number `kind`."""

    kind: int

    def forward(self, input: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(input.dtype)
        return functional.linear(input, dequantised(self.weight, self.kind).to(input.dtype), bias)


def store_as(layer: nn.Linear, weight: Tensor, kind: int) -> None:
    """Have `layer` compute with `weight`, bytes of this kind, from now on."""
    layer.weight = nn.Parameter(weight, requires_grad=False)
    layer.kind = int(kind)
    for name in ("compute_dtype", "device", "source_cls"):  # of diffusers' own class
        vars(layer).pop(name, None)
    layer.__class__ = GgufLinear


def dequantised(weight: Tensor, kind: int) -> Tensor:
    """The numbers that rows of bytes stand for, in the precision in which diffusers gives them."""
    widen, numbers, size = _of(kind)
    blocks = weight.detach().reshape(-1, size)
    return widen(blocks, numbers, size).reshape(*weight.shape[:-1], -1)


def row_bytes(numbers: int, kind: int) -> int:
    """The bytes of a row of so many numbers."""
    _, each, size = _of(kind)
    return numbers // each * size


def _of(kind: int) -> tuple[Any, int, int]:
    """What widens blocks of this kind, the numbers in one, and its bytes. The package is an extra."""
    from diffusers.quantizers.gguf.utils import GGML_QUANT_SIZES, dequantize_functions

    return dequantize_functions[kind], *GGML_QUANT_SIZES[kind]
