"""When waiting jobs have their turn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from i2v.jobs.job.record import JobStatus
from i2v.jobs.job.stored import StoredJob
from i2v.jobs.list.schedule import Turn, at_its_turn, left, turns
from tests.jobs.support import new_job

TEMPLATE = new_job()


def line(*seconds: float | None) -> list[StoredJob]:
    return [replace(TEMPLATE, id=str(number), seconds_predicted=each) for number, each in enumerate(seconds)]


def begins(running_left: float | None, *seconds: float | None) -> list[float | None]:
    return [turn.starts_in for turn in turns(line(*seconds), running_left).values()]


def test_a_turn_is_known_where_all_before_it_are() -> None:
    assert begins(0.0, None) == [0.0]
    assert begins(10.0, 5.0, 2.5, None) == [10.0, 15.0, 17.5]
    assert begins(1.0, 5.0, None, 2.0, 1.0) == [1.0, 6.0, None, None]
    assert begins(None, 5.0, 1.0) == [None, None]
    assert turns([], 0.0) == {}


def test_what_is_left_is_predicted_and_never_less_than_the_phase_says() -> None:
    status = JobStatus.of(TEMPLATE, Path("folder"))
    assert left(status, 100.0) is None
    assert left(replace(status, seconds_left=3.0), 100.0) == 3.0
    predicted = replace(status, seconds_predicted=50.0, started=90.0)
    assert left(predicted, 100.0) == 40.0
    assert left(replace(predicted, seconds_left=45.0), 100.0) == 45.0
    assert left(predicted, 999.0) == 0.0


def test_only_who_waits_has_a_turn() -> None:
    status = JobStatus.of(TEMPLATE, Path("folder"))
    line = {TEMPLATE.id: Turn(2, 7.0)}
    assert at_its_turn(status, line) == replace(status, position=2, starts_in=7.0)
    assert at_its_turn(status, {}) == status
    running = replace(status, state="running")
    assert at_its_turn(running, line) == running


@given(st.none() | st.integers(0, 50), st.lists(st.none() | st.integers(0, 50), max_size=12))
def test_each_waits_for_all_before_it(running_left: int | None, seconds: list[int | None]) -> None:
    waiting = line(*seconds)
    found = turns(waiting, running_left)
    assert [turn.position for turn in found.values()] == list(range(1, len(waiting) + 1))
    for place, job in enumerate(waiting):
        ahead = [running_left, *seconds[:place]]
        assert found[job.id].starts_in == (None if None in ahead else sum(ahead))
