"""Telling that a card has quietly run out: on Windows the driver then moves memory to the host, and another program
can push ours out, and no error comes. Steps only turn many times slower while the card is full."""

from __future__ import annotations

import statistics

TIMES_SLOWER = 3.0
FULL_SHARE = 0.97  # of the card, in use by everybody
SLOW_STEPS = 2  # one alone may be anything
STEPS_TO_KNOW = 3


class SpillWatch:
    """Follows the steps of one phase under one plan."""

    def __init__(self) -> None:
        self._usual: list[float] = []
        self._slow = 0

    def step(self, seconds: float, used_bytes: int, total_bytes: int) -> float | None:
        """After each step: how many times slower than usual the last ones were, once that means that memory has
        spilled; else None."""
        if len(self._usual) >= STEPS_TO_KNOW:
            usual = statistics.median(self._usual)
            if seconds > TIMES_SLOWER * usual and used_bytes >= FULL_SHARE * total_bytes:
                self._slow += 1
                return seconds / usual if self._slow >= SLOW_STEPS else None
        self._slow = 0
        self._usual.append(seconds)
        return None
