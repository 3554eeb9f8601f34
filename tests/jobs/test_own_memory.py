"""The warm worker's own memory is free to the next job."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from machines import card, no_card

from i2v.hardware.probe import GIB, GpuProcess
from i2v.jobs.lane.own_memory import without_worker
from i2v.planning.rates import CONTEXT_BYTES

WORKER = SimpleNamespace(pid=7, card="GPU-1")
GAME = GpuProcess(8, "a game", 2 * GIB)


@pytest.mark.parametrize(
    ("own", "free_bytes"),
    [
        ((GpuProcess(7, "python", GIB),), 5 * GIB),
        ((GpuProcess(7, "python", None),), 4 * GIB + CONTEXT_BYTES),
        ((), 4 * GIB + CONTEXT_BYTES),  # a container, in which the driver's process ids are others
        ((GpuProcess(7, "python", 9 * GIB),), 6 * GIB),
    ],
)
def test_what_the_worker_holds_counts_as_free_and_as_nobodys(own: tuple[GpuProcess, ...], free_bytes: int) -> None:
    gpu = without_worker(card(4, 6, processes=(GAME, *own)), WORKER).gpu
    assert gpu.free_bytes == free_bytes
    assert gpu.processes == (GAME,)


def test_without_a_worker_on_this_card_the_machine_is_as_it_is_read() -> None:
    machine = card(4, 6, processes=(GAME,))
    for worker in (None, SimpleNamespace(pid=8, card=""), SimpleNamespace(pid=8, card="GPU-2")):
        assert without_worker(machine, worker) == machine
    for other in (no_card(), card(None, 6), card(4, 6, simulated=True)):
        assert without_worker(other, WORKER) == other
