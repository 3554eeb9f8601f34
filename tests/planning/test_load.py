"""Times on a processor that others use as well: how much slower, and what of the load is our own."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from i2v.plan import Plan
from i2v.planning.load import MOST, WINDOWS, Processor, own_share, slowdown
from i2v.planning.planner import Planner
from tests.planning.support import card, job, made_up


@pytest.mark.parametrize(
    ("average", "own", "cores", "times"),
    [
        (0, 0, 4, 1),  # nothing runs
        (4, 0, 4, 2),  # as many others as cores: half of each core
        (12, 0, 2, 7),
        (4, 1, 4, 1),  # that was all our own
        (6, 0.5, 4, 2),
        (0.1, 1, 4, 1),  # the figure comes late: never below 1
        (500, 0, 2, MOST),
    ],
)
def test_others_share_the_cores_with_a_run(average: float, own: float, cores: int, times: float) -> None:
    assert slowdown(average, own, cores) == pytest.approx(times)


def test_our_own_runs_make_of_the_figure_what_the_kernel_counts() -> None:
    """The kernel moves the figure every five seconds towards the number of threads that run."""
    figure, window = 0.0, WINDOWS[0]
    for second in range(0, 200, 5):
        running = 3 if 20 <= second < 80 or second >= 150 else 0
        figure = figure * math.exp(-5 / window) + running * (1 - math.exp(-5 / window))
    assert 3 * own_share([(180, 120), (50, 0)], window) == pytest.approx(figure)


def test_a_run_is_not_slowed_by_itself_and_what_others_did_is_known_over_all_of_it() -> None:
    now, averages = [1000.0], [(0.0, 0.0, 0.0)]
    processor = Processor(lambda: averages[0], lambda: now[0])
    assert processor.slowdown_of_run(2) == 1
    with processor.at_work():
        now[0] += 100
        shares = [1 - math.exp(-100 / window) for window in WINDOWS]
        averages[0] = tuple(2 * share for share in shares)
        assert processor.slowdown_now(2) == processor.slowdown_of_run(2) == pytest.approx(1)
        averages[0] = (2 * shares[0] + 6, 2 * shares[1] + 2, 0.0)  # others came just now
        assert processor.slowdown_now(2) == pytest.approx(4)
        assert processor.slowdown_of_run(2) == pytest.approx(2)
    now[0] += 30
    averages[0] = (2 * own_share([(130, 30)], WINDOWS[0]), 0.0, 0.0)
    assert processor.slowdown_now(2) == pytest.approx(1)  # what is left of our own run


@pytest.mark.parametrize("since_counted", [0.0, 2.5, 4.9])
def test_a_run_that_has_just_ended_is_nobody_elses_load(since_counted: float) -> None:
    """The kernel counted last while it was still at work, or just after."""
    now = [1000.0]
    counted_at, ended_at = 1102.4 - since_counted, 1100.0
    began_ago, ended_ago = counted_at - 1000, max(0.0, counted_at - ended_at)
    figure = 2 * own_share([(began_ago, ended_ago)], WINDOWS[0])
    processor = Processor(lambda: (figure, 0.0, 0.0), lambda: now[0])
    with processor.at_work():
        now[0] = ended_at
    now[0] = 1102.4
    assert processor.slowdown_now(2) == pytest.approx(1)


def test_a_plan_that_was_worked_out_counts_as_one_thread_of_ours() -> None:
    now, figure = [1000.0], 1 - math.exp(-30 / WINDOWS[0])
    processor = Processor(lambda: (figure, 0.0, 0.0), lambda: now[0])
    with processor.planning():
        assert processor.slowdown_of_run(2) == 1  # that is no run
        now[0] += 30
    assert processor.slowdown_now(2) == pytest.approx(1)
    figure += 1  # another's
    assert processor.slowdown_now(2) == pytest.approx(1.5)


def test_a_system_without_such_a_figure_counts_as_idle() -> None:
    assert Processor(lambda: None).slowdown_now(1) == 1


def test_a_busy_processor_takes_longer_and_nothing_else_changes() -> None:
    plan = Plan(device="cuda", precision="float16")
    idle, busy = (Planner(replace(card(12), slowdown=n), made_up).forced(job(), plan) for n in (1.0, 4.0))
    assert busy.seconds == pytest.approx(4 * idle.seconds)
    assert [phase.peak_bytes for phase in busy.phases] == [phase.peak_bytes for phase in idle.phases]
