"""Following live storages: how many bytes of tensors exist now, and how many existed at the worst moment.

A dispatch mode sees every operation's results, so it counts what a caching allocator would be asked for, on real
and on fake tensors alike. It does not see the inside of a kernel (workspaces), nor allocator rounding.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


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

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        if outputs:
            # A view of an outside tensor shares its storage: nothing new was allocated. What `torch.tensor` makes is
            # new, though it arrives as an argument.
            fresh = func is torch.ops.aten.lift_fresh.default
            given = () if fresh else {_key(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
            for output in outputs:
                if _key(output) not in given:
                    self._count(output.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._live:
            return
        size = storage.nbytes()
        if self._on_allocate is not None:
            self._on_allocate(self.live_bytes, size)
        self.live_bytes += size
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        self._live[key] = weakref.finalize(storage, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self._live.pop(key, None)
        self.live_bytes -= size


def _key(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
