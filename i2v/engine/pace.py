"""How fast the steps go and how long the rest will take."""

from __future__ import annotations

import statistics
import time
from collections import deque

from i2v.events import StepFinished


class Pace:
    """Counts the steps of one phase. The running figure is a median of the last few steps, so that one slow step
    (most often the first) hardly changes it."""

    def __init__(self, phase: str, total: int, done: int = 0, window: int = 9, sections: int = 1) -> None:
        """`done` steps were made by an earlier run; they are made in so many `sections`."""
        self._sections = sections
        self._phase = phase
        self._total = total
        self._recent: deque[float] = deque(maxlen=window)
        self._done = done
        self._last = time.perf_counter()

    def other_steps(self) -> None:
        """From now on steps take another time than those before."""
        self._recent.clear()

    def step(self) -> StepFinished:
        """Call once when a step has finished."""
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        self._recent.append(seconds)
        self._done += 1
        per_step = statistics.median(self._recent)
        return StepFinished(
            phase=self._phase,
            index=self._done,
            total=self._total,
            seconds=seconds,
            seconds_per_step=per_step,
            seconds_left=per_step * (self._total - self._done),
            sections=self._sections,
        )
