"""Following a dry run: live storages as on the simulated card, and the work of every operation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import flop_registry, register_flop_formula, sdpa_backward_flop_count, sdpa_flop_count

from i2v.dryrun.allocator import Allocations
from i2v.dryrun.operations import Call, NewTensor, Outcome, view
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


@register_flop_formula(aten._scaled_dot_product_flash_attention_for_cpu_backward)
def _attention_backward_flops(
    grad: Sequence[int], query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any
) -> int:
    """All products of its backward pass, in which the scores are computed again."""
    return sdpa_backward_flop_count(grad, query, key, value)


@dataclass
class Measured:
    """What happened inside `measuring`: the most bytes held beyond those before, without and with what convolutions
    hold beside (on a processor, on a card); bytes still held at its end; the work, counted once even where the chunk
    that ran stands for several; and everything that was allocated and freed."""

    extra_bytes: int = 0
    beside_extra_bytes: tuple[int, int] = (0, 0)
    left_bytes: int = 0
    work: Work = NO_WORK
    allocations: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class _Cost:
    """The work of one operation: its curve, or None where it only moves bytes; and of a convolution its operations,
    whether they are in float32, and what it holds beside what it reads and gives: with oneDNN on a processor, with
    cuDNN on a card."""

    moved_bytes: int
    curve: np.ndarray | None
    beside_bytes: tuple[int, int] = (0, 0)
    convolution_flops: int = 0
    wide: bool = False


def _cost(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> _Cost | None:
    """None for an operation that launches nothing."""
    if func.namespace != "aten" or func.is_view or func.overloadpacket in _NO_KERNEL:
        return None
    tensors = {id(tensor): tensor for tensor in tensors_in(args, kwargs, result)}
    moved = sum([leaf.nbytes for leaf in tensors.values()])
    count = flop_registry.get(func.overloadpacket)
    flops = count(*args, **kwargs, out_val=result) if count else 0
    curve = np.maximum(flops, _RIDGES * moved) if count else None
    if func.overloadpacket is not aten.convolution:
        return _Cost(moved, curve)
    given, weight = args[:2]
    with_cudnn = given.nbytes + weight.nbytes + result.nbytes if weight.shape[2:].numel() > 1 else 0
    return _Cost(moved, curve, (given.nbytes, with_cudnn), flops, given.dtype == torch.float32)


_SEEN: dict[Any, tuple[Outcome, _Cost | None]] = {}
"""What calls gave and cost, by their keys: of this process, since nothing in it depends on whose tensors they are."""


class WorkTracker(StorageTracker):
    """Live storages, and work since the last `take`.

    `beside_peaks_bytes` is the peak with what convolutions hold beside tensors. oneDNN on a processor has a copy of the
    input in a layout of its own; cuDNN has one of input, weights and output, but where a kernel is one pixel: so it was
    measured on an H200 with torch 2.11, to 1 % at 42 shapes of two and three dimensions, in float16, bfloat16 and
    float32. `allocations` follows what a card's allocator would reserve."""

    def __init__(self) -> None:
        super().__init__()
        self.allocations = Allocations()
        self._numbers: dict[int, int] = {}  # of live storages in `allocations`
        self._replayed: list[int] = []
        self.beside_peaks_bytes = [0, 0]
        self._convolution_flops = self._wide_convolution_flops = 0.0
        self._curve = np.zeros(len(RIDGES))
        self._moved_bytes = 0.0  # by operations that only move: their part of the curve is the ridges times this
        self._launches = 0.0
        self._transfer_bytes = 0.0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is _DEVICE:
            # Every look at a fake tensor's `.device` comes by here, a third of all that does; it needs no fake kernel.
            return args[0].fake_device
        kwargs = kwargs or {}
        if (result := view(func, args, kwargs)) is not None:
            cost = _cost(func, args, kwargs, result)
        elif (call := Call.of(func, args, kwargs)) and call.key in _SEEN:
            again, cost = _SEEN[call.key]
            result, new = again.again(call)
            for tensor in new:
                self._count(tensor.untyped_storage())
        else:
            result = super().__torch_dispatch__(func, types, args, kwargs)
            cost = _cost(func, args, kwargs, result)
            # What has changed the shape of an argument is not done by giving that argument back.
            if call and (again := Outcome.of(call, result)) and Call.of(func, args, kwargs).key == call.key:
                _SEEN[call.key] = again, cost
        if cost is not None:
            self._add(cost)
        return result

    def _add(self, cost: _Cost) -> None:
        times = repeats()
        if cost.curve is None:
            self._moved_bytes += times * cost.moved_bytes
        else:
            self._curve += times * cost.curve
        self._launches += times
        if cost.convolution_flops:
            self._convolution_flops += times * cost.convolution_flops
            self._wide_convolution_flops += times * cost.convolution_flops * cost.wide
            self._raise_beside(cost.beside_bytes)

    def _raise_beside(self, more_bytes: Sequence[int] = (0, 0)) -> None:
        pairs = zip(self.beside_peaks_bytes, more_bytes, strict=True)
        self.beside_peaks_bytes = [max(peak, self.live_bytes + more) for peak, more in pairs]

    def _count(self, storage: torch.UntypedStorage) -> None:
        super()._count(storage)
        if storage.nbytes():
            replayed = self._replayed.pop(0) if self._replayed else self.allocations.allocate(storage.nbytes())
            self._numbers[storage._cdata] = replayed

    def _release(self, key: int, size: int) -> None:
        super()._release(key, size)
        if size:
            self.allocations.release(self._numbers.pop(key))

    def transfer(self, size: int) -> None:
        """Count `size` bytes as copied from the host."""
        self._transfer_bytes += repeats() * size

    def number_of(self, storage: torch.UntypedStorage) -> int | None:
        """A live storage's number in `allocations`; None for one that counts nothing."""
        return self._numbers.get(storage._cdata)

    def make(self, tensor: NewTensor, mode: FakeTensorMode) -> Tensor:
        """A tensor that some operation unseen has made."""
        made = tensor.made(mode)
        self._count(made.untyped_storage())
        return made

    def hold(self, size: int) -> None:
        """Count `size` bytes that are no tensor of the run as held; negative for given back."""
        self.live_bytes += size
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        self._raise_beside()

    def reset_peak(self) -> None:
        super().reset_peak()
        self.beside_peaks_bytes = [self.live_bytes] * 2
        self.allocations.reset_peak()

    def work(self) -> Work:
        """All work so far."""
        curve = tuple((self._curve + _RIDGES * self._moved_bytes).tolist())
        convolved = self._convolution_flops, self._wide_convolution_flops
        return Work(curve, self._launches, round(self._transfer_bytes), *convolved)

    def take(self) -> Work:
        """The work since the last call."""
        work = self.work()
        self._curve, self._moved_bytes, self._launches = np.zeros(len(RIDGES)), 0.0, 0.0
        self._transfer_bytes = self._convolution_flops = self._wide_convolution_flops = 0.0
        return work

    @contextmanager
    def measuring(self) -> Iterator[Measured]:
        """Measures what is done inside by itself. It counts for the whole run as well."""
        measured, live, before = Measured(), self.live_bytes, self.work()
        peak, beside, mark = self.peak_bytes, self.beside_peaks_bytes, self.allocations.mark()
        self.peak_bytes, self.beside_peaks_bytes = live, [live, live]
        yield measured
        measured.allocations = self.allocations.since(mark)
        measured.extra_bytes = self.peak_bytes - live
        on_processor, on_card = self.beside_peaks_bytes
        measured.beside_extra_bytes = on_processor - live, on_card - live
        measured.left_bytes = self.live_bytes - live
        measured.work = (self.work() + before * -1) * (1 / repeats())
        self.peak_bytes = max(peak, self.peak_bytes)
        self.beside_peaks_bytes = list(map(max, beside, self.beside_peaks_bytes))

    def account(self, measured: Measured, work: Work, kept: Sequence[int | None]) -> None:
        """Counts what is not run: everything of `measured` once more, and its `work`. The storages that are made next
        are those of it that are `kept`, by their numbers then."""
        now = self.allocations.replay(measured.allocations)
        self._replayed = [now[number] for number in kept if number is not None]
        self.peak_bytes = max(self.peak_bytes, self.live_bytes + measured.extra_bytes)
        self._raise_beside(measured.beside_extra_bytes)
        self._curve += work.curve
        self._launches += work.launches
        self._convolution_flops += work.convolution_flops
        self._wide_convolution_flops += work.wide_convolution_flops
        self._transfer_bytes += work.transfer_bytes
