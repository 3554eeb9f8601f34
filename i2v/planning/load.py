"""How much slower a run on the processor is because other programs compute at the same time.

The kernel's load average counts the threads that run or want to, ours as well, over the last one, five and fifteen
minutes, the newest moment most: what lies t seconds back counts by exp(-t / window). So a thread that ran from `began`
to `ended` seconds ago makes exp(-ended / window) - exp(-began / window) of the figure, and what our own runs made of it
can be taken away. What remains are the others' threads.

A run has as many threads as there are cores. Beside n others the kernel gives each thread the same share, so that a run
on c cores gets c * c / (c + n) of them, and takes (c + n) / c times as long.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

WINDOWS = (60.0, 300.0, 900.0)  # seconds, of the three figures
MOST = 10.0  # a slower run than that tells of something else than shared cores: a disk, memory that is swapped
STRETCHES_KEPT = 100  # of our own runs; an older one has left the figures

Averages = tuple[float, float, float]
Stretch = tuple[float, float]
"""A run of ours: how many seconds ago it began and ended."""


def own_share(stretches: Sequence[Stretch], window: float) -> float:
    """What a thread that ran in these `stretches` makes of the load average over `window` seconds."""
    return sum(math.exp(-ended / window) - math.exp(-began / window) for began, ended in stretches)


def slowdown(average: float, own: float, cores: int) -> float:
    """By what a run's time is multiplied, 1 on a processor that does nothing else. `average` is the load average and
    `own` the share of it that a thread of ours has, of as many as there are `cores`."""
    others = max(0.0, average - own * cores)
    return min((cores + others) / cores, MOST)


def read_averages() -> Averages | None:
    """The three load averages; None where the system has none."""
    try:
        return os.getloadavg()
    except (AttributeError, OSError):  # Windows has no such figure
        return None


class Processor:
    """Knows when our own runs were at work, and so how busy the others are. Any thread may ask."""

    def __init__(
        self, averages: Callable[[], Averages | None] = read_averages, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._averages = averages
        self._clock = clock
        self._lock = threading.Lock()
        self._stretches: deque[tuple[float, float]] = deque(maxlen=STRETCHES_KEPT)
        self._began: float | None = None

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """One of our runs is at work meanwhile; there is one at a time."""
        with self._lock:
            self._began = self._clock()
        try:
            yield
        finally:
            with self._lock:
                self._stretches.append((self._began, self._clock()))
                self._began = None

    def slowdown_now(self, cores: int) -> float:
        """How much slower a run would be that begins now."""
        return self._slowdown(cores, 0)

    def slowdown_of_run(self, cores: int) -> float:
        """How much slower the run at work was made, over all of it; 1 where none is."""
        with self._lock:
            began = self._began
        if began is None:
            return 1.0
        lasted = self._clock() - began
        return self._slowdown(cores, next((n for n, window in enumerate(WINDOWS) if lasted <= window), 2))

    def _slowdown(self, cores: int, which: int) -> float:
        averages, now = self._averages(), self._clock()
        if averages is None:
            return 1.0
        with self._lock:
            stretches = [*self._stretches, *([(self._began, now)] if self._began is not None else ())]
        ago = [(now - began, now - ended) for began, ended in stretches]
        return slowdown(averages[which], own_share(ago, WINDOWS[which]), cores)
