"""Following a dry run: live storages as on the simulated card, and the work of every operation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import flop_registry, register_flop_formula, sdpa_flop_count

from i2v.dryrun.allocator import Allocations
from i2v.memory.chunking import repeats
from i2v.memory.storages import StorageTracker, tensors_in
from i2v.planning.work import NO_WORK, RIDGES, Work

aten = torch.ops.aten
_NO_KERNEL = frozenset(
    {aten.empty, aten.empty_like, aten.empty_strided, aten.new_empty, aten.new_empty_strided, aten.lift_fresh}
)
_DEVICE = torch.ops.prim.device.default
_RIDGES = np.array(RIDGES)


# torch counts attention on cards, but not the kernel that fake tensors of a processor go through.
@register_flop_formula(aten._scaled_dot_product_flash_attention_for_cpu)
def _attention_flops(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any) -> int:
    """Both products of attention, from the shapes (B, heads, tokens, head_dim)."""
    return sdpa_flop_count(query, key, value)


@dataclass
class Measured:
    """What happened inside `measuring`: the most bytes held beyond those before, without and with convolutions' copies;
    bytes still held at its end; the work, counted once even where the chunk that ran stands for several; and everything
    that was allocated and freed."""

    extra_bytes: int = 0
    copies_extra_bytes: int = 0
    left_bytes: int = 0
    work: Work = NO_WORK
    allocations: Sequence[int] = ()


class WorkTracker(StorageTracker):
    """Live storages, and work since the last `take`.

    `copies_peak_bytes` is the peak where every convolution holds a copy of its input besides, as oneDNN does on a
    processor to have it in a layout of its own. `allocations` follows what a card's allocator would reserve."""

    def __init__(self) -> None:
        super().__init__()
        self.allocations = Allocations()
        self._numbers: dict[int, int] = {}  # of live storages in `allocations`
        self._replayed: list[int] = []
        self.copies_peak_bytes = 0
        self._curve = np.zeros(len(RIDGES))
        self._moved_bytes = 0.0  # by operations that only move: their part of the curve is the ridges times this
        self._launches = 0.0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is _DEVICE:
            # Every look at a fake tensor's `.device` comes by here, a third of all that does; it needs no fake kernel.
            return args[0].fake_device
        result = super().__torch_dispatch__(func, types, args, kwargs)
        if func.overloadpacket is aten.convolution:
            copied = args[0].numel() * args[0].element_size()
            self.copies_peak_bytes = max(self.copies_peak_bytes, self.live_bytes + copied)
        if func.namespace == "aten" and not func.is_view and func.overloadpacket not in _NO_KERNEL:
            self._add(func, args, kwargs or {}, result)
        return result

    def _add(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        tensors = {id(tensor): tensor for tensor in tensors_in(args, kwargs, result)}
        moved = sum([leaf.nbytes for leaf in tensors.values()])
        times = repeats()
        if count := flop_registry.get(func.overloadpacket):
            self._curve += times * np.maximum(count(*args, **kwargs, out_val=result), _RIDGES * moved)
        else:
            self._moved_bytes += times * moved
        self._launches += times

    def _count(self, storage: torch.UntypedStorage) -> None:
        super()._count(storage)
        if storage.nbytes():
            replayed = self._replayed.pop(0) if self._replayed else self.allocations.allocate(storage.nbytes())
            self._numbers[storage._cdata] = replayed

    def _release(self, key: int, size: int) -> None:
        super()._release(key, size)
        if size:
            self.allocations.release(self._numbers.pop(key))

    def number_of(self, storage: torch.UntypedStorage) -> int | None:
        """A live storage's number in `allocations`; None for one that counts nothing."""
        return self._numbers.get(storage._cdata)

    def hold(self, size: int) -> None:
        """Count `size` bytes that are no tensor of the run as held; negative for given back."""
        self.live_bytes += size
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        self.copies_peak_bytes = max(self.copies_peak_bytes, self.live_bytes)

    def reset_peak(self) -> None:
        super().reset_peak()
        self.copies_peak_bytes = self.live_bytes
        self.allocations.reset_peak()

    def work(self) -> Work:
        """All work so far."""
        return Work(tuple((self._curve + _RIDGES * self._moved_bytes).tolist()), self._launches)

    def take(self) -> Work:
        """The work since the last call."""
        work = self.work()
        self._curve, self._moved_bytes, self._launches = np.zeros(len(RIDGES)), 0.0, 0.0
        return work

    @contextmanager
    def measuring(self) -> Iterator[Measured]:
        """Measures what is done inside by itself. It counts for the whole run as well."""
        measured, live, before = Measured(), self.live_bytes, self.work()
        peak, copies_peak, mark = self.peak_bytes, self.copies_peak_bytes, self.allocations.mark()
        self.peak_bytes = self.copies_peak_bytes = live
        yield measured
        measured.allocations = self.allocations.since(mark)
        measured.extra_bytes = self.peak_bytes - live
        measured.copies_extra_bytes = self.copies_peak_bytes - live
        measured.left_bytes = self.live_bytes - live
        measured.work = (self.work() + before * -1) * (1 / repeats())
        self.peak_bytes = max(peak, self.peak_bytes)
        self.copies_peak_bytes = max(copies_peak, self.copies_peak_bytes)

    def account(self, measured: Measured, work: Work, kept: Sequence[int | None]) -> None:
        """Counts what is not run: everything of `measured` once more, and its `work`. The storages that are made next
        are those of it that are `kept`, by their numbers then."""
        now = self.allocations.replay(measured.allocations)
        self._replayed = [now[number] for number in kept if number is not None]
        self.peak_bytes = max(self.peak_bytes, self.live_bytes + measured.extra_bytes)
        self.copies_peak_bytes = max(self.copies_peak_bytes, self.live_bytes + measured.copies_extra_bytes)
        self._curve += work.curve
        self._launches += work.launches
