"""A worker that says nothing: how long that is still work, and what happens then."""

from __future__ import annotations

import time

from i2v.events import PhaseStarted, StepFinished
from i2v.jobs.lane.watch import LEAST_SECONDS, LOADING_SECONDS, UNKNOWN_STEP_SECONDS, HangWatch, patience
from tests.jobs_support import wait_until


def test_patience_grows_with_the_step_and_is_never_small() -> None:
    assert patience("load", 1.0) == patience("encode", None) == LOADING_SECONDS
    assert patience("denoise", None) == UNKNOWN_STEP_SECONDS
    assert patience("denoise", 0.1) == LEAST_SECONDS
    assert patience("denoise", 60.0) == 1200.0


def test_silence_is_answered_once_and_words_are_not() -> None:
    killed: list[float] = []
    watch = HangWatch(lambda: killed.append(time.monotonic()), None, fixed_seconds=1.5)
    watch.heard(PhaseStarted("denoise"))
    for _ in range(4):
        time.sleep(0.4)  # four of these are more than one silence may last
        watch.heard(StepFinished("denoise", 1, 9, 0.1, 0.1, 1.0))
    assert not killed
    wait_until(lambda: killed)
    assert (watch.hung_seconds, watch.hung_phase) == (1.5, "denoise")
    time.sleep(1.7)
    assert len(killed) == 1


def test_a_watch_that_is_stopped_kills_nobody() -> None:
    killed: list[float] = []
    watch = HangWatch(lambda: killed.append(0), None, fixed_seconds=0.3)
    watch.stop()
    time.sleep(0.6)
    assert not killed
