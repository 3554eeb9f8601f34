"""The weights of a module as things that can be exchanged: what they are made of, and where they are looked up.

A weight may be a plain tensor, or one that only wraps others (torchao's quantised tensors), or a plain one with a class
of its own (GGUF). To move it, the plain tensors inside are copied and a weight of the same kind is made around the
copies. Exchanging `tensor.data`, as is often done, moves nothing of a wrapper.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from torch import Tensor, nn

_PLAIN = (Tensor, nn.Parameter)


@dataclass(frozen=True)
class Weight:
    """One weight of a module: every table (`_parameters` or `_buffers` of a layer) and name by which it is found. A
    weight that layers share has several."""

    places: tuple[tuple[dict[str, Tensor | None], str], ...]
    tensor: Tensor

    def put(self, tensor: Tensor) -> None:
        """Have `tensor` found in its stead."""
        for table, name in self.places:
            table[name] = tensor


def weights_of(module: nn.Module) -> list[Weight]:
    """The parameters and buffers of `module` and of all below it."""
    found: dict[int, tuple[Tensor, list[tuple[dict[str, Tensor | None], str]]]] = {}
    for layer in module.modules():
        for table in (layer._parameters, layer._buffers):
            for name, tensor in table.items():
                if tensor is not None:
                    found.setdefault(id(tensor), (tensor, []))[1].append((table, name))
    return [Weight(tuple(places), tensor) for tensor, places in found.values()]


def plain_parts(tensor: Tensor) -> list[Tensor]:
    """The plain tensors that hold the contents of `tensor`: itself, or those that it wraps."""
    return [part.detach() for part in _inside(tensor)]


def around(tensor: Tensor, parts: Iterable[Tensor]) -> Tensor:
    """A tensor of the kind of `tensor` around other plain ones, in the order of `plain_parts`."""
    made = _around(tensor, iter(parts))
    is_parameter = isinstance(tensor, nn.Parameter) and not isinstance(made, nn.Parameter)
    return nn.Parameter(made, requires_grad=False) if is_parameter else made


def parts_bytes(weights: Iterable[Weight]) -> list[int]:
    """Bytes of each plain tensor of `weights`, in the order in which they are placed."""
    return [part.nbytes for weight in weights for part in _inside(weight.tensor)]


def copied(weight: Weight, copy: Callable[[Tensor], Tensor]) -> Tensor:
    """The weight of `weight` with every plain tensor inside copied by `copy`."""
    return around(weight.tensor, [copy(part) for part in plain_parts(weight.tensor)])


def _inside(tensor: Tensor) -> list[Tensor]:
    """As `plain_parts`, not detached: for thousands of weights that takes seconds, where tensors are fake."""
    if _wraps(tensor):
        names, _ = tensor.__tensor_flatten__()
        return [part for name in names for part in _inside(getattr(tensor, name))]
    return [tensor]


def _wraps(tensor: Tensor) -> bool:
    return type(tensor) not in _PLAIN and hasattr(tensor, "__tensor_flatten__")


def _around(tensor: Tensor, parts: Iterator[Tensor]) -> Tensor:
    if _wraps(tensor):
        names, context = tensor.__tensor_flatten__()
        inner = {name: _around(getattr(tensor, name), parts) for name in names}
        return type(tensor).__tensor_unflatten__(inner, context, tensor.shape, tensor.stride())
    plain = next(parts)
    if type(tensor) in _PLAIN or type(plain) is type(tensor):
        return plain
    # A class of its own on a plain tensor, GGUF's for one: what it knows of itself goes along.
    special = plain.as_subclass(type(tensor))
    special.__dict__.update(tensor.__dict__)
    return special
