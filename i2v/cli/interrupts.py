"""Ctrl-C as the command line takes it: at once, but never in the middle of a line."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType


class Interrupts:
    """Inside `with`, Ctrl-C and a polite request to end (SIGTERM) raise KeyboardInterrupt, which inside `whole` waits
    for its end; a second one does not. For the main thread, as all signals are."""

    def __init__(self) -> None:
        self._held = self._waiting = False
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Interrupts:
        for number in (signal.SIGINT, signal.SIGTERM):
            # A shell that starts something in the background has it ignore Ctrl-C, and so it stays.
            if number != signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            with suppress(TypeError):  # None: what was there was not set by Python, and cannot be set again
                signal.signal(number, before)  # type: ignore[arg-type]

    @contextmanager
    def whole(self) -> Iterator[None]:
        """What is done inside is not interrupted. Raises KeyboardInterrupt afterwards where that was wanted."""
        self._held = True
        try:
            yield
        finally:
            self._held, wanted, self._waiting = False, self._waiting, False
            if wanted:
                raise KeyboardInterrupt

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        if self._held and not self._waiting:
            self._waiting = True
            return
        raise KeyboardInterrupt
