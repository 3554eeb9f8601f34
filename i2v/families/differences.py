"""What a LoRA file adds to parameters as they are: differences of biases, norms and tables, which no pair of matrices
can say. They take the place of the network's own and hold no more memory; the own are kept aside, on the host."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from i2v.messages import UserError

_OWN: WeakKeyDictionary[nn.Module, dict[str, tuple[nn.Module, str, nn.Parameter]]] = WeakKeyDictionary()
"""Of networks that were changed: by its name, where a parameter belongs and what it was."""
_EXACT = (torch.float32, torch.float16, torch.bfloat16)


def check_differences(network: nn.Module, differences: Mapping[str, Tensor], file: Path) -> None:
    """Raise UserError for the first of `differences` that `network` has no parameter for, or one stored in eight
    bits or fewer, or one of another shape."""
    parameters = dict(network.named_parameters())
    for name, tensor in differences.items():
        own = parameters.get(name)
        if own is None:
            raise UserError("models.adapter_layer", file=str(file), tensor=name, title=type(network).__name__)
        if own.dtype not in _EXACT:
            raise UserError("models.adapter_stored", file=str(file), tensor=name)
        if tensor.shape != own.shape:
            found, wanted = ("x".join(map(str, shape)) or "()" for shape in (tensor.shape, own.shape))
            raise UserError("models.adapter_shape", file=str(file), tensor=name, found=found, wanted=wanted)


def add_differences(network: nn.Module, differences: Mapping[str, Tensor], weight: float) -> None:
    """Add `differences`, times `weight`, to the parameters of `network`, which stay in their precision."""
    kept = _OWN.setdefault(network, {})
    for name, tensor in differences.items():
        owner, _, leaf = name.rpartition(".")
        layer = network.get_submodule(owner)
        own = getattr(layer, leaf)
        kept.setdefault(name, (layer, leaf, own))
        changed = (own.data.float() + weight * tensor.float()).to(own.dtype)
        setattr(layer, leaf, nn.Parameter(changed, requires_grad=False))


def take_differences_back(network: nn.Module) -> None:
    """Give `network` its own parameters again, the very same."""
    for layer, leaf, own in _OWN.pop(network, {}).values():
        setattr(layer, leaf, own)
