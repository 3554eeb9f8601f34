"""Whose turn it is: nobody starves, nobody who is alone is reordered, priority wins."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from i2v.jobs.job.stored import StoredJob
from i2v.jobs.list.order import fair_order
from tests.jobs.support import new_job

OWNERS = "abcd"
TEMPLATE = new_job()


@st.composite
def queues(draw: st.DrawFn, priorities: tuple[int, ...] = (-1, 0, 1)) -> list[StoredJob]:
    """Waiting jobs with places of their own, in any order."""
    rows = draw(st.lists(st.tuples(st.sampled_from(OWNERS), st.sampled_from(priorities)), max_size=14))
    places = draw(st.permutations(range(len(rows))))
    return [
        replace(TEMPLATE, id=str(place), owner=owner, priority=priority, place=place)
        for (owner, priority), place in zip(rows, places, strict=True)
    ]


served = st.dictionaries(st.sampled_from(OWNERS), st.integers(1, 9))


@given(queues(), served)
def test_everybody_waiting_is_in_the_order_once(waiting: list[StoredJob], served: dict[str, int]) -> None:
    assert Counter(job.id for job in fair_order(waiting, served)) == Counter(job.id for job in waiting)


@given(queues(), served)
def test_priority_wins(waiting: list[StoredJob], served: dict[str, int]) -> None:
    priorities = [job.priority for job in fair_order(waiting, served)]
    assert priorities == sorted(priorities, reverse=True)


@given(queues(), served)
def test_an_owners_own_jobs_keep_their_places(waiting: list[StoredJob], served: dict[str, int]) -> None:
    ordered = fair_order(waiting, served)
    for owner in OWNERS:
        own = [job for job in ordered if job.owner == owner]
        assert own == sorted(own, key=lambda job: (-job.priority, job.place))


@given(queues((0,)), served)
def test_nobody_is_served_twice_while_another_waits(waiting: list[StoredJob], served: dict[str, int]) -> None:
    """The oracle of round robin: between two turns of one owner, everybody who waits all the while has exactly one."""
    ordered = fair_order(waiting, served)
    for first, job in enumerate(ordered):
        for second in range(first + 1, len(ordered)):
            if ordered[second].owner == job.owner:
                between = Counter(other.owner for other in ordered[first + 1 : second])
                waits_on = {other.owner for other in ordered[second:]} - {job.owner}
                assert all(between[owner] == 1 for owner in waits_on)
                assert all(times == 1 for times in between.values())
                break


@given(queues((0,)), served)
def test_who_was_served_least_recently_comes_first(waiting: list[StoredJob], served: dict[str, int]) -> None:
    ordered = fair_order(waiting, served)
    if ordered:
        assert served.get(ordered[0].owner, 0) == min(served.get(job.owner, 0) for job in waiting)


@given(queues(), served)
def test_the_order_told_is_the_order_that_comes(waiting: list[StoredJob], served: dict[str, int]) -> None:
    told, came, turns = fair_order(waiting, served), [], dict(served)
    while waiting:
        job = fair_order(waiting, turns)[0]
        came.append(job)
        turns[job.owner] = max(turns.values(), default=0) + 1
        waiting = [other for other in waiting if other is not job]
    assert came == told


@given(st.lists(st.lists(st.sampled_from("bcd"), max_size=4), min_size=9, max_size=9), served)
def test_nobody_starves_whatever_comes_in(arrivals: list[list[str]], turns: dict[str, int]) -> None:
    """One job of a, and others' new jobs before every turn: a's comes within as many turns as there are owners."""
    waiting, turns = [replace(TEMPLATE, id="a", owner="a", place=100)], dict(turns)
    for turn, owners in enumerate(arrivals):
        waiting += [replace(TEMPLATE, id=f"{turn}.{n}", owner=owner, place=n) for n, owner in enumerate(owners)]
        job = fair_order(waiting, turns)[0]
        if job.owner == "a":
            assert turn < len(OWNERS)
            return
        turns[job.owner] = max(turns.values(), default=0) + 1
        waiting.remove(job)
    raise AssertionError("a starved")
