"""Operations on fake tensors, without torch's long way round where it is not needed.

torch works out every operation on fake tensors in Python; where it keeps what it found (`FakeTensorMode.cache`) it
looks at the arguments so thoroughly that this takes nearly as long: a quarter of a millisecond, and a dry run of one
phase has thousands of operations. Here

- views are made by torch's own C++, on the meta tensors that fake tensors are inside
- of any other operation the same call gives the same again: a call is known by its operation and its arguments, of
  tensors by all that a result's shape can depend on, and what it gave is an argument or a new tensor.

Everything else goes torch's way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, in_kernel_invocation_manager

aten = torch.ops.aten
_VIEWS = frozenset(
    {
        *(aten.view.default, aten._unsafe_view.default, aten.alias.default),
        *(aten.expand.default, aten.unsqueeze.default),
        *(aten.slice.Tensor, aten.select.int, aten.permute.default, aten.transpose.int, aten.t.default),
        *(aten.split.Tensor, aten.split_with_sizes.default, aten.unbind.int),
    }
)
# Of these kinds two arguments are the same for an operation if they are equal.
_PLAIN = frozenset((int, float, bool, NoneType, str, torch.dtype, torch.device, torch.layout, torch.memory_format))


def view(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """One or more views of a fake tensor; None where `func` is to go torch's way."""
    if func not in _VIEWS or not _without_values(args[0]):
        return None
    given = args[0]
    with in_kernel_invocation_manager(given.fake_mode):
        inside = func(*args, **kwargs)
    if isinstance(inside, Tensor):
        return FakeTensor(given.fake_mode, inside, given.fake_device)
    return [FakeTensor(given.fake_mode, one, given.fake_device) for one in inside]


def _without_values(tensor: Any) -> bool:
    """Whether nothing but its shape is known of it."""
    return type(tensor) is FakeTensor and tensor.constant is None


@dataclass(frozen=True, slots=True)
class Call:
    """One call of an operation: what tells it from others, and the tensors among its arguments, each once."""

    key: tuple[Any, ...]
    tensors: tuple[FakeTensor, ...]

    @classmethod
    def of(cls, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call | None:
        """None for a call that may give something else another time: one that gives views; one without fake tensors,
        or with others besides."""
        if func.namespace != "aten" or func.is_view or func is aten._unsafe_view.default:
            return None
        key: list[Any] = [func, torch.get_default_dtype(), *kwargs]
        tensors: dict[int, FakeTensor] = {}
        if _describe((*args, *kwargs.values()), key, tensors) and tensors:
            return cls(tuple(key), tuple(tensors.values()))
        return None


def _describe(values: Iterable[Any], key: list[Any], tensors: dict[int, FakeTensor]) -> bool:
    """Add `values` to `key`, and those that are tensors to `tensors`; False where one of them cannot be described."""
    for value in values:
        kind = type(value)
        key.append(kind)
        if kind is FakeTensor:
            if value.constant is not None or value.dtype.is_complex:
                return False
            number = len(tensors)
            if id(value) in tensors:
                number = list(tensors).index(id(value))
            else:
                tensors[id(value)] = value
            key += (number, value.shape, value.stride(), value.dtype, value.fake_device)
        elif kind in _PLAIN:
            key.append(value)
        elif kind is list or kind is tuple:
            key.append(len(value))
            if not _describe(value, key, tensors):
                return False
        else:
            return False
    return True


@dataclass(frozen=True, slots=True)
class NewTensor:
    """A tensor that is all of a storage of its own."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def like(cls, tensor: FakeTensor) -> NewTensor:
        return cls(tensor.shape, tensor.stride(), tensor.dtype, tensor.fake_device)

    @property
    def span_bytes(self) -> int:
        """From the first element to the end of the last; not for a tensor without elements."""
        last = sum((size - 1) * stride for size, stride in zip(self.size, self.stride, strict=True))
        return (last + 1) * self.dtype.itemsize

    def made(self, mode: FakeTensorMode) -> FakeTensor:
        with in_kernel_invocation_manager(mode):
            inside = torch.empty_strided(self.size, self.stride, dtype=self.dtype, device="meta")
        return FakeTensor(mode, inside, self.device)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call gave: new tensors, and arguments by their numbers; alone, in a list or in a tuple."""

    parts: tuple[NewTensor | int, ...]
    gathered: type | None

    @classmethod
    def of(cls, call: Call, result: Any) -> Outcome | None:
        """None where it cannot be made again."""
        gathered = None if isinstance(result, Tensor) else type(result)
        if gathered not in (None, list, tuple):
            return None
        tensors = [result] if gathered is None else result
        taken = {one.untyped_storage()._cdata for one in call.tensors}
        parts = [_part(one, call.tensors, taken) for one in tensors]
        return None if None in parts else cls(tuple(parts), gathered)

    def again(self, call: Call) -> tuple[Any, list[FakeTensor]]:
        """As the call would give it once more; and what of it is new."""
        mode = call.tensors[0].fake_mode
        tensors = [call.tensors[one] if isinstance(one, int) else one.made(mode) for one in self.parts]
        new = [tensor for tensor, one in zip(tensors, self.parts, strict=True) if not isinstance(one, int)]
        return tensors[0] if self.gathered is None else self.gathered(tensors), new


def _part(tensor: Any, given: Sequence[FakeTensor], taken: set[int]) -> NewTensor | int | None:
    """One tensor that a call with these arguments gave, whose storages are `taken`; None where it is otherwise."""
    if not _without_values(tensor) or tensor.requires_grad or tensor.dtype.is_complex:
        return None
    for number, one in enumerate(given):
        if tensor is one:
            return number
    storage, new = tensor.untyped_storage(), NewTensor.like(tensor)
    if storage._cdata in taken or storage.nbytes() != new.span_bytes:
        return None
    taken.add(storage._cdata)
    return new
