"""Telling a worker that hangs from one that works: no report for longer than the step at hand can explain."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from i2v.events import Event
from i2v.job_progress import JobProgress

LOADING_SECONDS = 1800.0  # a model from a slow disk, a download in its quiet moments
LEAST_SECONDS = 120.0
STEPS = 20.0  # as long as so many steps take
UNKNOWN_STEP_SECONDS = 3600.0


class HangWatch:
    """Calls `kill` once when nothing was heard for longer than the phase that was heard of last can take.

    `step_seconds`: what a denoising step was predicted to take, None where that is unknown. `fixed_seconds`: the
    patience with steps, whatever they take."""

    def __init__(
        self, kill: Callable[[], None], step_seconds: float | None, fixed_seconds: float | None = None
    ) -> None:
        self._kill = kill
        self._step_seconds = step_seconds
        self._fixed_seconds = fixed_seconds
        self._progress = JobProgress(phase="load")
        self._heard = time.monotonic()
        self._stopped = threading.Event()
        self.hung_seconds: float | None = None
        """How long nothing was heard when `kill` was called; None while it was not."""
        self.hung_phase = ""
        threading.Thread(target=self._look, name="hang-watch", daemon=True).start()

    def heard(self, event: Event | None = None) -> None:
        """The worker said something."""
        if event is not None:
            self._progress = self._progress.after(event)
            if (seconds := self._progress.seconds_per_step) is not None:
                self._step_seconds = max(self._step_seconds or 0.0, seconds)
        self._heard = time.monotonic()

    def stop(self) -> None:
        """End the watch."""
        self._stopped.set()

    def _look(self) -> None:
        while True:
            limit = patience(self._progress.phase, self._step_seconds, self._fixed_seconds)
            left = self._heard + limit - time.monotonic()
            if left <= 0:
                break
            if self._stopped.wait(min(left, 1.0)):
                return
        self.hung_seconds, self.hung_phase = limit, self._progress.phase
        self._kill()


def patience(phase: str, step_seconds: float | None, fixed_seconds: float | None = None) -> float:
    """How many seconds without a word are still work. What somebody fixed is meant for steps: a new process takes
    seconds to load what it needs, and one ended while it does would never get to its first."""
    if phase in ("load", "encode"):
        return LOADING_SECONDS if fixed_seconds is None else max(LEAST_SECONDS, fixed_seconds)
    if fixed_seconds is not None:
        return fixed_seconds
    if step_seconds is None:
        return UNKNOWN_STEP_SECONDS
    return max(LEAST_SECONDS, STEPS * step_seconds)
