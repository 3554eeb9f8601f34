"""What a suite measures on: the NVIDIA card of this machine, or with `--small` a simulated one of any size.

A smaller card is a share of the real one: torch's allocator may hold what is left of the cap after this process's
context, and the planner is told of a card that has the cap free. So the context counts, as it would on that card;
what does not shrink with it is the chip's speed.
"""

from __future__ import annotations

import contextlib
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pynvml
import torch

from bench.gpu.record import software
from i2v.dryrun.measure import load_libraries, measure
from i2v.hardware.host import read_host
from i2v.hardware.nvml import read_gpus
from i2v.hardware.probe import Gpu, Probe, capped, simulated_gpu, visible
from i2v.memory.card import Card, CudaCard, SimulatedCard
from i2v.plan import Plan, Precision
from i2v.planning.machine import Machine, machine_of
from i2v.planning.measured import Measurement
from i2v.units import GIB

SAMPLE_SECONDS = 0.02
UNBOUNDED = 2**50


@dataclass(frozen=True)
class Peak:
    """The most since the last reset: bytes of tensors, of torch's allocator, and of this process on the device,
    context included."""

    allocated_bytes: int
    reserved_bytes: int
    device_bytes: int

    def to_json(self) -> dict[str, int]:
        return asdict(self)

    def joined(self, other: Peak) -> Peak:
        """The larger of each."""
        return Peak(*(max(pair) for pair in zip(self.to_json().values(), other.to_json().values(), strict=True)))


NOTHING = Peak(0, 0, 0)


class Rig(ABC):
    """The card of a bench. One `card` is open at a time."""

    small: bool
    device: torch.device
    context_bytes: int

    @abstractmethod
    def described(self) -> dict[str, Any]:
        """The machine as every result file names it."""

    @abstractmethod
    def card(
        self, cap_bytes: int | None = None, *, precision: Precision = "float32"
    ) -> contextlib.AbstractContextManager[Card]:
        """A card of `cap_bytes`, or all there is, for plans of `precision`; empty when it is closed."""

    @abstractmethod
    def reset_peak(self) -> None:
        """Let a new peak begin, with torch's cache given back."""

    @abstractmethod
    def peak(self) -> Peak:
        """The peak since the last reset."""

    @abstractmethod
    def machine(self, cap_bytes: int | None, measurement: Measurement | None = None) -> Machine:
        """What the planner is told of a card of `cap_bytes`."""

    @abstractmethod
    def gpus(self) -> tuple[Gpu, ...]:
        """What NVML says now."""

    def base_plan(self, precision: str) -> Plan:
        """Where the planner starts."""
        return Plan(device="simulated" if self.small else "cuda", precision=precision)  # type: ignore[arg-type]

    def measure(self) -> Measurement:
        """What the card does, as the app measures it when it first sees one."""
        return measure(self.device)

    def synchronize(self) -> None:
        """Wait for the card."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


class CudaRig(Rig):
    """The first card that this process sees. What NVML said before there was a context is kept."""

    small = False

    def __init__(self) -> None:
        found, problems = read_gpus()
        if not found or not torch.cuda.is_available():
            said = "; ".join(problem.render("en") for problem in problems)
            raise SystemExit(f"No NVIDIA card that torch {torch.__version__} can use. {said} Try --small.")
        self.before = (visible(found, os.environ) or found)[0]
        self.device = torch.device("cuda", 0)
        load_libraries(self.device)
        self._watch = DeviceWatch(self.before)
        # What the driver took that is not torch's: the context, and cuBLAS and cuDNN with it.
        self.context_bytes = max(0, self._watch.now() - torch.cuda.memory_reserved(self.device))

    def described(self) -> dict[str, Any]:
        gpu = self.before
        return {
            "small": False,
            "card": gpu.name,
            "card_bytes": gpu.total_bytes,
            "driver": gpu.driver,
            "context_bytes": self.context_bytes,
            **software(),
        }

    @contextlib.contextmanager
    def card(self, cap_bytes: int | None = None, *, precision: Precision = "float32") -> Iterator[Card]:
        bound = None if cap_bytes is None else max(1, cap_bytes - self.context_bytes)
        card = CudaCard(bound, tf32_convolutions=precision != "float32")
        try:
            yield card
        finally:
            card.evict_all()
            torch.cuda.set_per_process_memory_fraction(1.0, self.device)

    def reset_peak(self) -> None:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self.device)
        self._watch.reset()

    def peak(self) -> Peak:
        allocated, reserved = torch.cuda.max_memory_allocated(self.device), torch.cuda.max_memory_reserved(self.device)
        return Peak(allocated, reserved, self._watch.highest())

    def machine(self, cap_bytes: int | None, measurement: Measurement | None = None) -> Machine:
        gpu = self.before if cap_bytes is None else capped(replace(self.before, used_bytes=0), cap_bytes)
        machine = machine_of(Probe((gpu,), gpu, read_host(Path.cwd())), "cuda", measurement)
        return replace(machine, context_bytes=self.context_bytes)

    def gpus(self) -> tuple[Gpu, ...]:
        return read_gpus()[0]

    def measure(self) -> Measurement:
        # The context is there already, so its size is the one that was found when it was made.
        return replace(measure(self.device), context_bytes=self.context_bytes)


class DeviceWatch:
    """Follows NVML's figure of memory in use, less what was in use before this process began."""

    def __init__(self, before: Gpu) -> None:
        self._handle = pynvml.nvmlDeviceGetHandleByUUID(before.uuid)
        self._before_bytes = before.used_bytes or 0
        self._highest = 0
        threading.Thread(target=self._follow, daemon=True).start()

    def now(self) -> int:
        """Bytes in use now."""
        return pynvml.nvmlDeviceGetMemoryInfo(self._handle).used - self._before_bytes

    def reset(self) -> None:
        """Begin anew."""
        self._highest = self.now()

    def highest(self) -> int:
        """The most that was seen; a peak shorter than SAMPLE_SECONDS may be missed, so the present counts too."""
        self._highest = max(self._highest, self.now())
        return self._highest

    def _follow(self) -> None:
        pause = threading.Event()
        while not pause.wait(SAMPLE_SECONDS):
            self._highest = max(self._highest, self.now())


class SmallRig(Rig):
    """A simulated card of any size: the same programs on the processor, whose figures say nothing of any GPU."""

    small = True
    device = torch.device("cpu")
    context_bytes = 0

    def __init__(self) -> None:
        self._card = SimulatedCard(UNBOUNDED)

    def described(self) -> dict[str, Any]:
        return {
            "small": True,
            "card": "simulated",
            "card_bytes": None,
            "driver": None,
            "context_bytes": 0,
            **software(),
        }

    @contextlib.contextmanager
    def card(self, cap_bytes: int | None = None, *, precision: Precision = "float32") -> Iterator[Card]:
        self._card = SimulatedCard(cap_bytes or UNBOUNDED)
        try:
            yield self._card
        finally:
            self._card.evict_all()

    def reset_peak(self) -> None:
        self._card.release_cache()
        self._card.reset_peak()

    def peak(self) -> Peak:
        reading = self._card.read_memory()
        # A phase that gives its cache back at its end had reserved what it held.
        reserved = max(reading.reserved_bytes, reading.peak_allocated_bytes)
        return Peak(reading.peak_allocated_bytes, reserved, reserved)

    def machine(self, cap_bytes: int | None, measurement: Measurement | None = None) -> Machine:
        gpu = simulated_gpu(cap_bytes or 64 * GIB)
        return machine_of(Probe((gpu,), gpu, read_host(Path.cwd())), "simulated", measurement)

    def gpus(self) -> tuple[Gpu, ...]:
        return (simulated_gpu(self._card.capacity_bytes),)

    def measure(self) -> Measurement:
        # Nobody reads what the processor does here.
        with patch("i2v.dryrun.measure.SECONDS", 0.02), patch.dict("i2v.dryrun.measure.SIDE", cpu=128):
            return super().measure()
