"""Following live storages: how many bytes of tensors exist now, and how many existed at the worst moment.

A dispatch mode sees every operation's results, so it counts what a caching allocator would be asked for, on real
and on fake tensors alike. It does not see the inside of a kernel (workspaces), nor allocator rounding.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class StorageTracker(TorchDispatchMode):
    """Counts the bytes of storages made while it is active; storages from outside (host inputs) do not count.

    `on_allocate(live_bytes, new_bytes)` is called before a new storage is counted and may raise.
    """

    def __init__(self, on_allocate: Callable[[int, int], None] | None = None) -> None:
        super().__init__()
        self.live_bytes = 0
        self.peak_bytes = 0
        self._live: dict[int, weakref.finalize] = {}
        self._on_allocate = on_allocate

    def reset_peak(self) -> None:
        """Start a new peak from what is live now."""
        self.peak_bytes = self.live_bytes

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # torch wraps every mode against being compiled, which costs as much as all that is done here; nothing of ours
        # is compiled.
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        storages = [output.untyped_storage() for output in tensors_in(result)]
        if new := [storage for storage in storages if storage._cdata not in self._live]:
            # A view of an outside tensor shares its storage: nothing new was allocated. What `torch.tensor` makes is
            # new, though it arrives as an argument.
            fresh = func is torch.ops.aten.lift_fresh.default
            given = () if fresh else {one.untyped_storage()._cdata for one in tensors_in(args, kwargs)}
            for storage in new:
                if storage._cdata not in given and storage._cdata not in self._live:
                    self._count(storage)
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if self._on_allocate is not None:
            self._on_allocate(self.live_bytes, size)
        self.live_bytes += size
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        self._live[key] = weakref.finalize(storage, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self._live.pop(key, None)
        self.live_bytes -= size


def tensors_in(*values: Any) -> list[Tensor]:
    """The tensors of an operation's arguments or results: bare, or in lists, tuples, dicts and tensors that wrap them.

    torch's own `tree_leaves` does the same for any container, in ten times the time, and this is asked at every
    operation."""
    found: list[Tensor] = []
    _collect(values, found)
    return found


def _collect(values: Iterable[Any], found: list[Tensor]) -> None:
    for value in values:
        if isinstance(value, Tensor):
            if hasattr(value, "__tensor_flatten__"):  # it only wraps others, and its own storage holds nothing
                _collect([getattr(value, name) for name in value.__tensor_flatten__()[0]], found)
            else:
                found.append(value)
        elif isinstance(value, tuple | list):
            _collect(value, found)
        elif isinstance(value, dict):
            _collect(value.values(), found)
