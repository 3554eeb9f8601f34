"""The warm worker's own memory is free to the next job."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from machines import card, no_card

from i2v.hardware import host
from i2v.hardware.probe import GIB, GpuProcess
from i2v.jobs.lane import own_memory
from i2v.jobs.lane.own_memory import without_worker
from i2v.planning.rates import CONTEXT_BYTES

WORKER = SimpleNamespace(pid=7, card="GPU-1")
GAME = GpuProcess(8, "a game", 2 * GIB)


@pytest.fixture(autouse=True)
def in_ram(monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """What processes hold alone, by their ids."""
    held: dict[int, int] = {}
    monkeypatch.setattr(own_memory, "private_bytes", lambda pid: held.get(pid, 0))
    return held


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


@pytest.mark.parametrize("machine", [no_card(), card(4, 6), card(4, 6, simulated=True)])
def test_what_it_holds_in_ram_is_free_as_well(machine, in_ram: dict[int, int]) -> None:
    """No more than there is: some of it may be in RAM twice, as the system counts."""
    available, total = machine.host.ram_available_bytes, machine.host.ram_total_bytes
    for held, free in ((0, available), (GIB, available + GIB), (total, total)):
        in_ram[WORKER.pid] = held
        assert without_worker(machine, WORKER).host.ram_available_bytes == free


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").is_file(), reason="the system does not tell")
def test_what_a_process_alone_holds_is_its_own_memory_and_no_file(tmp_path: Path) -> None:
    size = 64 * 2**20
    (tmp_path / "file").write_bytes(bytes(size))
    before = host.private_bytes(os.getpid())
    with (tmp_path / "file").open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        mapped[:: mmap.PAGESIZE]
        assert host.private_bytes(os.getpid()) - before < size / 4
    own = bytearray(size)
    own[:: mmap.PAGESIZE] = b"1" * (size // mmap.PAGESIZE)
    assert host.private_bytes(os.getpid()) - before > size * 3 / 4
    assert host.private_bytes(os.getpid(), tmp_path) == 0
