"""The card: the one way to place weights, evict them, move tensors and read the meter.

Three cards share one interface. `CudaCard` is the GPU this process sees. `HostCard` is a machine without one: the
host is the card and nothing is copied. `SimulatedCard` is a card of any size made of host memory: placing is a real
copy, evicting frees it, every live storage counts, and going beyond its size raises torch's own out-of-memory error.
"""

from __future__ import annotations

import contextlib
import gc
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import psutil
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

from i2v.hardware.host import read_ram, runs_under_windows
from i2v.memory.lanes import CopyQueue, CudaLane, EarlyLane
from i2v.memory.locked import LockedBlocks
from i2v.memory.parts import Weight, copied, weights_of
from i2v.memory.storages import StorageTracker
from i2v.memory.streaming import Parted, Streamer, WeightBlock
from i2v.messages import UserError
from i2v.plan import Plan
from i2v.units import GIB

MIB = 2**20
_LOCKED = LockedBlocks()
"""Of this process: blocks are their models', which outlive a card."""


@dataclass(frozen=True)
class MemoryReading:
    """Bytes at one moment. `source`: whose figures these are, see `events.MemorySampled`."""

    allocated_bytes: int
    reserved_bytes: int
    device_used_bytes: int
    device_total_bytes: int
    process_rss_bytes: int
    peak_allocated_bytes: int
    source: Literal["cuda", "simulated", "process"]


class Card(ABC):
    """Where a phase computes. Weights keep their host copy while placed, so that evicting copies nothing back."""

    device: torch.device
    widens = False
    """Whether half precision becomes float32 on its way here. The modules have their own again when they leave."""

    def __init__(self) -> None:
        self._on_host: dict[nn.Module, list[Weight]] = {}
        self._streams: dict[nn.Module, Streamer] = {}
        self._words: dict[nn.Module, tuple[nn.Embedding, ...]] = {}

    @property
    def placed(self) -> frozenset[nn.Module]:
        """The modules that are on the card now, whole or in a stream."""
        return frozenset(self._on_host)

    def place(self, module: nn.Module) -> None:
        """Copy a module's parameters and buffers onto the card; a module already there stays.

        Raises torch.OutOfMemoryError when they do not fit; the module is then wholly on the host again."""
        if module not in self._on_host:
            with self._whole_or_not(module):
                self._move(module, weights_of(module))

    def stream(self, module: nn.Module, parts: Parted, *, kept_bytes: int, slots: int) -> None:
        """As `place`, but for its blocks: of these only so many bytes stay, and the others come when they are called.

        Raises torch.OutOfMemoryError as `place` does."""
        if module not in self._on_host:
            with self._whole_or_not(module):
                self._move(module, parts.outside)
                for layer in parts.words:
                    self._look_up_on_host(layer)
                self._words[module] = parts.words
                stream = Streamer(self, parts.blocks, self.lane(), kept_bytes=kept_bytes, slots=slots)
                self._streams[module] = stream

    def _look_up_on_host(self, layer: nn.Embedding) -> None:
        """Until its network is evicted the rows that `layer` finds come to the card, and its table does not."""
        of_class = layer.forward

        def forward(numbers: Tensor) -> Tensor:
            numbers = self.to_host(numbers)
            with self.on_host():
                rows = of_class(numbers)
            return self.to_card(rows)

        layer.forward = forward

    def _move(self, module: nn.Module, weights: Iterable[Weight]) -> None:
        moved = self._on_host.setdefault(module, [])
        for weight in weights:
            weight.put(copied(weight, self.to_card))
            moved.append(weight)

    @contextlib.contextmanager
    def _whole_or_not(self, module: nn.Module) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.evict(module)
            raise

    def evict(self, module: nn.Module) -> None:
        """Free a module's place on the card; its weights are on the host again. Nothing happens if it is not there."""
        if (stream := self._streams.pop(module, None)) is not None:
            stream.close()
        for weight in self._on_host.pop(module, []):
            weight.put(weight.tensor)
        for layer in self._words.pop(module, ()):
            vars(layer).pop("forward", None)

    def evict_all(self) -> None:
        """Evict every module and give cached memory back to the device."""
        for module in list(self._on_host):
            self.evict(module)
        gc.collect()
        self.release_cache()

    def empty(self, size_bytes: int) -> Tensor:
        """Memory of the card, as bytes that hold nothing yet."""
        with self.running():
            return torch.empty(size_bytes, dtype=torch.uint8, device=self.device)

    def lane(self) -> CopyQueue:
        """A queue of copies to this card."""
        return EarlyLane()

    def will_copy(self, block: WeightBlock) -> None:  # noqa: B027 (most cards need nothing)
        """Make `block` ready on the host to be copied to this card again and again."""

    def to_card(self, tensor: Tensor) -> Tensor:
        """`tensor` on the card."""
        if self.widens and tensor.dtype in (torch.float16, torch.bfloat16):
            with self.on_host():
                tensor = tensor.float()
        return self._copy(tensor)

    @contextlib.contextmanager
    def widening(self) -> Iterator[None]:
        """For the time of the `with`, what comes to the card in half precision is float32 there."""
        before, self.widens = self.widens, True
        try:
            yield
        finally:
            self.widens = before

    @abstractmethod
    def to_host(self, tensor: Tensor) -> Tensor:
        """`tensor` on the host, outside the card's memory."""

    @abstractmethod
    def _copy(self, host: Tensor) -> Tensor: ...

    @abstractmethod
    def read_memory(self) -> MemoryReading:
        """The meter now."""

    @abstractmethod
    def reset_peak(self) -> None:
        """Start a new peak from what is allocated now."""

    def free_share(self) -> float:
        """How much of the card's memory is free now, 0 to 1; 1 where the card does not answer."""
        try:
            reading = self.read_memory()
        except RuntimeError:
            return 1.0
        return 1 - reading.device_used_bytes / reading.device_total_bytes

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Everything computed on the card happens inside this: no gradients, and metered where the card needs it."""
        with torch.no_grad():
            yield

    @staticmethod
    @contextlib.contextmanager
    def on_host() -> Iterator[None]:
        """Work of the host, outside the card's memory: not metered, and done for real in a dry run."""
        with _disable_current_modes():
            yield

    @abstractmethod
    def release_cache(self) -> None:
        """Give memory that is cached but unused back to the device."""

    @abstractmethod
    def synchronize(self) -> None:
        """Wait until the card has finished what was asked of it, so that times are true."""


class HostCard(Card):
    """No GPU: the host computes. Placing copies nothing; the meter is this process's resident memory."""

    device = torch.device("cpu")

    def place(self, module: nn.Module) -> None:
        if self.widens:
            super().place(module)
        else:
            self._on_host.setdefault(module, [])

    def stream(self, module: nn.Module, parts: Parted, *, kept_bytes: int, slots: int) -> None:
        """The host has nowhere to stream from: as `place`."""
        self.place(module)

    def _copy(self, host: Tensor) -> Tensor:
        return host

    def to_host(self, tensor: Tensor) -> Tensor:
        return tensor

    def read_memory(self) -> MemoryReading:
        rss = _process_rss()
        return MemoryReading(rss, rss, rss, psutil.virtual_memory().total, rss, rss, "process")

    def reset_peak(self) -> None:
        """Nothing: the operating system keeps no peak that we could reset."""

    def release_cache(self) -> None:
        """Nothing: the host's allocator is not ours to empty."""

    def synchronize(self) -> None:
        """Nothing: the host computes in step with its caller."""


class SpareHost(HostCard):
    """The host in a card's stead, for a phase that the card has no room for. Processors are slow in half precision or
    do not know it, so it is computed in float32."""

    widens = True


class SimulatedCard(Card):
    """A card of `capacity_bytes` in host memory. What is live on it counts; beyond it, torch.OutOfMemoryError.

    `reserved` follows a caching allocator: it grows with the peak and shrinks only when the cache is released.
    """

    device = torch.device("cpu")

    def __init__(self, capacity_bytes: int) -> None:
        super().__init__()
        if capacity_bytes <= 0:
            raise UserError("memory.no_capacity", gib=round(capacity_bytes / GIB, 2))
        self.capacity_bytes = capacity_bytes
        self._reserved_bytes = 0
        self._tracker = StorageTracker(self._allow)
        self._depth = 0

    def _allow(self, live_bytes: int, new_bytes: int) -> None:
        if live_bytes + new_bytes > self.capacity_bytes:
            raise torch.OutOfMemoryError(
                f"CUDA out of memory. Tried to allocate {new_bytes / MIB:.2f} MiB. Simulated card of "
                f"{self.capacity_bytes / GIB:.2f} GiB, {live_bytes / GIB:.2f} GiB in use."
            )
        self._reserved_bytes = max(self._reserved_bytes, live_bytes + new_bytes)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        # The mode may be entered only once: a nested one would count everything twice.
        with torch.no_grad(), self._tracker if self._depth == 0 else contextlib.nullcontext():
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1

    def _copy(self, host: Tensor) -> Tensor:
        with self.running():
            return host.clone()

    def to_host(self, tensor: Tensor) -> Tensor:
        with self.on_host():
            return tensor.detach().clone()

    def read_memory(self) -> MemoryReading:
        live = self._tracker.live_bytes
        return MemoryReading(
            allocated_bytes=live,
            reserved_bytes=max(self._reserved_bytes, live),
            device_used_bytes=max(self._reserved_bytes, live),
            device_total_bytes=self.capacity_bytes,
            process_rss_bytes=_process_rss(),
            peak_allocated_bytes=self._tracker.peak_bytes,
            source="simulated",
        )

    def reset_peak(self) -> None:
        self._tracker.reset_peak()

    def release_cache(self) -> None:
        self._reserved_bytes = self._tracker.live_bytes

    def synchronize(self) -> None:
        """Nothing: host memory computes in step with its caller."""


class CudaCard(Card):
    """The GPU this process sees first (the launcher sets CUDA_VISIBLE_DEVICES to the chosen card's UUID).

    `memory_cap_bytes` bounds torch's allocator, to try a smaller card; the CUDA context is outside that bound. Under
    WSL the bound is what is free now: the driver there does not fail beyond it, but moves memory to the host.

    `tf32_convolutions`: convolutions in float32 may be computed in TensorFloat-32, as torch does unless it is told
    otherwise. It has float16's ten bits: on an H100 an autoencoder in float32 decodes in a third to a seventh of the
    time, 0.03 to 0.07 % off, where bfloat16 is 0.5 to 0.9 % off (`bench/results/gpu/autoencoders.json`). Without it
    float32 on a card is the processor's.
    """

    def __init__(self, memory_cap_bytes: int | None = None, *, tf32_convolutions: bool = False) -> None:
        super().__init__()
        if not torch.cuda.is_available():
            raise UserError("memory.no_cuda", torch=torch.__version__)
        self.device = torch.device("cuda", 0)
        self.memory_cap_bytes = memory_cap_bytes
        free, total = torch.cuda.mem_get_info(self.device)
        bound = free + torch.cuda.memory_reserved(self.device) if runs_under_windows() else total
        fraction = min(bound, memory_cap_bytes or bound) / total
        torch.cuda.set_per_process_memory_fraction(fraction, self.device)
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = tf32_convolutions, False

    def lane(self) -> CopyQueue:
        return CudaLane(self.device)

    def will_copy(self, block: WeightBlock) -> None:
        _LOCKED.lock(block, *read_ram())

    def _copy(self, host: Tensor) -> Tensor:
        return host.to(self.device)

    def to_host(self, tensor: Tensor) -> Tensor:
        return tensor.to("cpu")

    def read_memory(self) -> MemoryReading:
        free, total = torch.cuda.mem_get_info(self.device)
        used = total - free
        if self.memory_cap_bytes:
            total = min(total, self.memory_cap_bytes)
        return MemoryReading(
            allocated_bytes=torch.cuda.memory_allocated(self.device),
            reserved_bytes=torch.cuda.memory_reserved(self.device),
            device_used_bytes=used,
            device_total_bytes=total,
            process_rss_bytes=_process_rss(),
            peak_allocated_bytes=torch.cuda.max_memory_allocated(self.device),
            source="cuda",
        )

    def reset_peak(self) -> None:
        torch.cuda.reset_peak_memory_stats(self.device)

    def release_cache(self) -> None:
        # After a failed kernel the card answers nothing any more; that error is told already.
        with contextlib.suppress(torch.AcceleratorError):
            torch.cuda.empty_cache()

    def synchronize(self) -> None:
        torch.cuda.synchronize(self.device)


def open_card(plan: Plan) -> Card:
    """The card a plan asks for. Raises UserError when this process has no such card."""
    if plan.device == "simulated":
        return SimulatedCard(plan.memory_cap_bytes or 0)
    if plan.device == "cuda":
        # What is in float32 in a plan of half precision is so for its range, and diffusers lets cuDNN do the same.
        return CudaCard(plan.memory_cap_bytes, tf32_convolutions=plan.precision != "float32")
    return HostCard()


def _process_rss() -> int:
    return psutil.Process().memory_info().rss
