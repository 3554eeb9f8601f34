"""The lane whose copies come as late as its waits allow; `EarlyLane` is the other end of what a card may do."""

from __future__ import annotations

from i2v.memory.lanes import Mark, Pairs


class LateLane:
    """Every copy only when something waits for it, or for one begun later."""

    def __init__(self) -> None:
        self._begun = 0
        self._left: dict[int, Pairs] = {}

    def copy(self, pairs: Pairs, after: Mark) -> Mark:
        self._left[self._begun] = pairs
        self._begun += 1
        return self._begun - 1

    def wait(self, done: Mark) -> None:
        for number in [number for number in self._left if number <= done]:
            for there, here in self._left.pop(number):
                there.copy_(here)

    def mark(self) -> Mark: ...

    def finish(self) -> None:
        self._left.clear()
