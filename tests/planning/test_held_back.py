"""What the time of a job goes by: found for what is known to hold it back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from i2v.planning.limits import limit
from i2v.planning.machine import Machine, imagined_machine
from i2v.units import GIB

HERE = imagined_machine("RTX 3060", None, 32 * GIB, 100 * GIB)
WORK = {
    "arithmetic": lambda machine: 1e15 / machine.rates.half_flops,
    "memory": lambda machine: 1e13 / machine.rates.bandwidth,
    "link": lambda machine: 1e12 / machine.rates.link,
    "disk": lambda machine: 1e12 / machine.disk_read_rate,
    "processor": lambda machine: 1e6 * machine.rates.launch_seconds,
}


@pytest.mark.parametrize("name", WORK)
def test_what_a_job_waits_for_is_found_beside_less_of_all_else(name):
    def seconds_on(machine: Machine) -> float:
        return sum(work(machine) / WORK[one](HERE) * (10 if one == name else 1) for one, work in WORK.items())

    assert limit(HERE, seconds_on) == name


def test_locked_memory_is_the_same_way_to_the_card():
    locked = replace(HERE, rates=replace(HERE.rates, link_locked=2e10))
    assert limit(locked, lambda machine: 1e12 / machine.rates.link_locked) == "link"


def test_nothing_is_told_where_nothing_alone_would_save_much():
    assert limit(HERE, lambda machine: 100.0) is None
    assert limit(HERE, lambda machine: 100 + WORK["link"](machine) / WORK["link"](HERE)) is None
