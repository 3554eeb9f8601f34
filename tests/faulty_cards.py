"""Simulated cards that run out of memory when they are told to, and what a run made of its steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from i2v.events import Event, PhaseStarted, StepFinished
from i2v.memory.card import SimulatedCard
from i2v.units import GIB


class Faulty(SimulatedCard):
    """A card whose allocator fails at its `at`-th allocation (from 0), once; it counts them."""

    def __init__(self, at: int | None = None, times: int = 1) -> None:
        super().__init__(GIB)
        self.at, self.times, self.allocations = at, times, 0
        self._tracker.__init__(self._count)

    def _count(self, live_bytes: int, new_bytes: int) -> None:
        self.allocations += 1
        if self.at is not None and self.allocations > self.at and self.times > 0:
            self.times -= 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        self._allow(live_bytes, new_bytes)


class FaultyInPhases(SimulatedCard):
    """A card that runs out of memory once for each of `faults`, in turn: (phase, denoising steps finished by then)."""

    def __init__(self, events: Callable[[], list[Event]], faults: Sequence[tuple[str, int]]) -> None:
        super().__init__(GIB)
        self.events, self.left = events, list(faults)
        self._tracker.__init__(self._count)

    def _count(self, live_bytes: int, new_bytes: int) -> None:
        if self.left:
            begun = [event.phase for event in self.events() if isinstance(event, PhaseStarted)]
            if (begun[-1], len(steps(self.events()))) == self.left[0]:
                del self.left[0]
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        self._allow(live_bytes, new_bytes)


def steps(events: list[Event]) -> list[int]:
    """The denoising steps in the order they were finished."""
    return [event.index for event in events if isinstance(event, StepFinished) and event.phase == "denoise"]
