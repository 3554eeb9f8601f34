"""Ctrl-C at any moment of showing a job: every event is told once, in whole lines, and the job is cancelled."""

from __future__ import annotations

import io
import json
import os
import signal
from collections.abc import Iterator

import pytest

from i2v.cli.generate import _follow
from i2v.cli.interrupts import Interrupts
from i2v.cli.views import JsonView
from i2v.events import Cancelled, Event, PhaseStarted, StateChanged

EVENTS = [PhaseStarted("encode"), PhaseStarted("denoise"), PhaseStarted("decode"), StateChanged("cancelled")]


class Recorded:
    """A job whose events are there; it is cancelled by taking note of it."""

    def __init__(self) -> None:
        self.cancelled = 0

    def attach(self, _job_id: str, after: int = -1) -> Iterator[tuple[int, Event]]:
        yield from list(enumerate(EVENTS))[after + 1 :]

    def cancel(self, _job_id: str) -> bool:
        self.cancelled += 1
        return True


class Pressed(io.StringIO):
    """Somebody presses Ctrl-C as the `at`-th thing is written (from 0)."""

    def __init__(self, at: int, sent: signal.Signals = signal.SIGINT) -> None:
        super().__init__()
        self.at, self.sent, self.writes = at, sent, 0

    def write(self, text: str) -> int:
        written = super().write(text)
        self.writes += 1
        if self.writes == self.at + 1:
            os.kill(os.getpid(), self.sent)
        return written


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("at", range(2 * len(EVENTS)))
def test_every_event_is_told_once_in_a_whole_line(at: int, sent: signal.Signals) -> None:
    jobs, out = Recorded(), Pressed(at, sent)
    with Interrupts() as interrupts:
        _follow(jobs, "job", JsonView(out, io.StringIO(), "en"), interrupts)
    told = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [one["type"] for one in told] == ["phase_started"] * 3 + ["state_changed"]
    assert [one["phase"] for one in told[:3]] == ["encode", "denoise", "decode"]
    assert jobs.cancelled == (out.writes > at)


def test_the_second_time_nothing_waits() -> None:
    """Who pressed once and sees a line that does not come to its end, since nobody reads it, presses again."""
    reached = []

    def press() -> None:
        with interrupts.whole():
            for number in range(3):
                os.kill(os.getpid(), signal.SIGINT)
                reached.append(number)

    with Interrupts() as interrupts, pytest.raises(KeyboardInterrupt):
        press()
    assert reached == [0]


def test_the_second_ctrl_c_leaves_at_once() -> None:
    class Pressing(Recorded):
        def attach(self, job_id: str, after: int = -1) -> Iterator[tuple[int, Event]]:
            os.kill(os.getpid(), signal.SIGINT)
            yield from super().attach(job_id, after)

    jobs, out = Pressing(), io.StringIO()
    with Interrupts() as interrupts, pytest.raises(KeyboardInterrupt):
        _follow(jobs, "job", JsonView(out, io.StringIO(), "en"), interrupts)
    assert (jobs.cancelled, out.getvalue()) == (1, "")


def test_what_was_there_before_is_there_again() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with Interrupts():
        assert signal.getsignal(signal.SIGTERM) != before[1]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_where_ctrl_c_is_ignored_it_stays_so() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts, interrupts.whole():
            os.kill(os.getpid(), signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_end_counts_that_came_with_the_interrupt() -> None:
    """Pressed as the last event is told: the job has ended as it has."""
    ended = [(0, Cancelled(3)), (1, StateChanged("cancelled"))]

    class Ended(Recorded):
        def attach(self, _job_id: str, after: int = -1) -> Iterator[tuple[int, Event]]:
            yield from ended[after + 1 :]

    with Interrupts() as interrupts:
        last = _follow(Ended(), "job", JsonView(Pressed(0), io.StringIO(), "en"), interrupts)
    assert last == Cancelled(3)
