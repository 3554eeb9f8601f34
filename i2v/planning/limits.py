"""What the time of a job goes by: of all that a machine could have twice as fast, that which would save most."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from i2v.planning.machine import Machine

Limit = Literal["arithmetic", "memory", "link", "disk", "processor"]
TELLING_SHARE = 0.1
"""Of its time a job must save for it to be told: twice as fast, something saves half of it at most."""


def limit(machine: Machine, seconds_on: Callable[[Machine], float]) -> Limit | None:
    """What holds a job back on `machine`: how fast a card computes, reads its memory, gets weights from the host (or
    these come from the disk), or is told by the processor what comes next. `seconds_on` says how long the job takes on
    a machine. None where nothing alone would save much."""
    now, seconds = seconds_on(machine), {}
    for name, faster in _twice_as_fast(machine).items():
        seconds[name] = seconds_on(faster)
    best = min(seconds, key=lambda name: seconds[name])
    return best if seconds[best] <= (1 - TELLING_SHARE) * now else None


def _twice_as_fast(machine: Machine) -> dict[Limit, Machine]:
    rates = machine.rates
    computing = {name: 2 * getattr(rates, name) for name in ("half_flops", "single_flops", "convolution_flops")}
    return {
        "arithmetic": replace(machine, rates=replace(rates, **computing)),
        "memory": replace(machine, rates=replace(rates, bandwidth=2 * rates.bandwidth)),
        "link": replace(machine, rates=replace(rates, link=2 * rates.link, link_locked=2 * rates.link_locked)),
        "disk": replace(machine, disk_read_rate=2 * machine.disk_read_rate),
        "processor": replace(machine, rates=replace(rates, launch_seconds=rates.launch_seconds / 2)),
    }
