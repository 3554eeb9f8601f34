"""How much slower a run on the processor is because other programs compute at the same time.

The kernel's load average counts the threads that run or want to, ours as well, over the last one, five and fifteen
minutes, the newest moment most: what lies t seconds back counts by exp(-t / window). So a thread that ran from `began`
to `ended` seconds ago makes exp(-ended / window) - exp(-began / window) of the figure, and what our own runs made of it
can be taken away. What remains are the others' threads. The kernel counts every five seconds only: a run that ended
since then still stands in the figure as it stood when it was counted.

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
from dataclasses import dataclass, replace

WINDOWS = (60.0, 300.0, 900.0)  # seconds, of the three figures
COUNTED_EVERY = 5.0  # seconds, in every kernel
MOST = 10.0  # a slower run than that tells of something else than shared cores: a disk, memory that is swapped
STRETCHES_KEPT = 100  # of our own runs; an older one has left the figures

Averages = tuple[float, float, float]
Stretch = tuple[float, float]
"""A run of ours: how many seconds ago it began and ended."""


def own_share(stretches: Sequence[Stretch], window: float) -> float:
    """What a thread that ran in these `stretches` makes of the load average over `window` seconds."""
    return sum(math.exp(-ended / window) - math.exp(-began / window) for began, ended in stretches)


def most_own_share(stretches: Sequence[Stretch], window: float) -> float:
    """The same at whichever moment of the last COUNTED_EVERY seconds that share was greatest: when the kernel counted
    last is not known, and what was our own is never to count as others'."""
    moments = {0.0, COUNTED_EVERY, *(min(ended, COUNTED_EVERY) for _, ended in stretches)}
    return max(
        own_share([(max(0.0, began - ago), max(0.0, ended - ago)) for began, ended in stretches], window)
        for ago in moments
    )


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


@dataclass(frozen=True, eq=False)
class _Own:
    """Work of ours by the processor's `clock`. `threads`: None for as many as there are cores."""

    threads: int | None
    began: float
    ended: float = 0.0


class Processor:
    """Knows when our own runs were at work, and so how busy the others are. Any thread may ask."""

    def __init__(
        self, averages: Callable[[], Averages | None] = read_averages, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._averages = averages
        self._clock = clock
        self._lock = threading.Lock()
        self._ended: deque[_Own] = deque(maxlen=STRETCHES_KEPT)
        self._going_on: list[_Own] = []  # one run, and what is planned beside it

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """One of our runs is at work meanwhile, on every core; there is one at a time."""
        yield from self._meanwhile(None)

    @contextmanager
    def planning(self) -> Iterator[None]:
        """A plan is worked out meanwhile, by one thread."""
        yield from self._meanwhile(1)

    def _meanwhile(self, threads: int | None) -> Iterator[None]:
        own = _Own(threads, self._clock())
        with self._lock:
            self._going_on.append(own)
        try:
            yield
        finally:
            with self._lock:
                self._going_on.remove(own)
                self._ended.append(replace(own, ended=self._clock()))

    def slowdown_now(self, cores: int) -> float:
        """How much slower a run would be that begins now."""
        return self._slowdown(cores, 0)

    def slowdown_of_run(self, cores: int) -> float:
        """How much slower the run at work was made, over all of it; 1 where none is."""
        with self._lock:
            began = next((own.began for own in self._going_on if own.threads is None), None)
        if began is None:
            return 1.0
        lasted = self._clock() - began
        return self._slowdown(cores, next((n for n, window in enumerate(WINDOWS) if lasted <= window), 2))

    def _slowdown(self, cores: int, which: int) -> float:
        averages, now = self._averages(), self._clock()
        if averages is None:
            return 1.0
        with self._lock:
            ours = [*self._ended, *(replace(own, ended=now) for own in self._going_on)]
        share = 0.0
        for threads in {own.threads for own in ours}:
            ago = [(now - own.began, now - own.ended) for own in ours if own.threads == threads]
            share += most_own_share(ago, WINDOWS[which]) * (threads or cores) / cores
        return slowdown(averages[which], share, cores)
