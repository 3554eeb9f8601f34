"""How weights come to a card beside the computing: a queue of copies that works in order, and the waits between both.

What reads a buffer waits for the copy that fills it; a copy waits until nothing reads the buffer any more. On a card
both are events on streams, and the host waits for neither. `EarlyLane` does each copy as early as these waits allow,
and the tests have a lane that does it as late: whoever computes the same with both waits where it must.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

Pairs = Sequence[tuple[Tensor, Tensor]]
"""Where to, on the card, and from where, on the host."""
Mark = Any
"""A moment in what is computed, or the end of a copy; each lane has its own kind."""


class CopyQueue(Protocol):
    """A queue of copies to one card."""

    def copy(self, pairs: Pairs, after: Mark) -> Mark:
        """Begin to copy once `after` has come; the moment when it is done."""
        ...

    def wait(self, done: Mark) -> None:
        """What is computed from now on begins when that copy is done."""
        ...

    def mark(self) -> Mark:
        """The moment when all that was asked to be computed so far is done."""
        ...

    def finish(self) -> None:
        """No copy that was begun is still to come after this. What it was for may then be freed."""
        ...


class EarlyLane:
    """Every copy at once: what it overwrites must not be needed any more."""

    def copy(self, pairs: Pairs, after: Mark) -> Mark:
        for there, here in pairs:
            there.copy_(here)

    def wait(self, done: Mark) -> None: ...

    def mark(self) -> Mark: ...

    def finish(self) -> None: ...


class CudaLane:
    """A stream of its own on an NVIDIA or AMD card. Its buffers are made before and freed after all that uses them (see
    `finish`), so torch's allocator need not be told that a second stream reads them (`record_stream`)."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)

    def copy(self, pairs: Pairs, after: Mark) -> Mark:
        self._stream.wait_event(after)
        with torch.cuda.stream(self._stream):
            for there, here in pairs:
                there.copy_(here, non_blocking=True)
        return self._stream.record_event()

    def wait(self, done: Mark) -> None:
        torch.cuda.current_stream(self._device).wait_event(done)

    def mark(self) -> Mark:
        return torch.cuda.current_stream(self._device).record_event()

    def finish(self) -> None:
        torch.cuda.current_stream(self._device).wait_stream(self._stream)
