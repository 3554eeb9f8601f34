"""When has a download stopped? Arithmetic over moments and byte counts alone."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

Stall = Literal["silent", "slow"]


@dataclass(frozen=True)
class StallLimits:
    """A route has stopped when no byte comes for `silent_seconds`, or when over `slow_seconds` fewer came than
    `slow_bytes_per_second`; 0 of the latter for "however slow"."""

    silent_seconds: float = 30.0
    slow_seconds: float = 120.0
    slow_bytes_per_second: int = 100_000


class StallWatch:
    """Fed with (moment in seconds, bytes so far); says whether the route has stopped."""

    def __init__(self, limits: StallLimits, now: float) -> None:
        self._limits = limits
        self.restart(now, 0)

    def restart(self, now: float, done_bytes: int) -> None:
        """Count from here: something else than the route took its time."""
        self._moved = now
        self._samples = deque([(now, done_bytes)])

    def stalled(self, now: float, done_bytes: int) -> Stall | None:
        """How it has stopped by `now`; None where it has not. Moments and counts never go back."""
        limits, samples = self._limits, self._samples
        if done_bytes > samples[-1][1]:
            self._moved = now
        samples.append((now, done_bytes))
        while len(samples) > 1 and samples[1][0] <= now - limits.slow_seconds:
            samples.popleft()
        if now - self._moved >= limits.silent_seconds:
            return "silent"
        began, bytes_then = samples[0]
        if now - began < limits.slow_seconds:
            return None
        return "slow" if done_bytes - bytes_then < limits.slow_bytes_per_second * (now - began) else None
