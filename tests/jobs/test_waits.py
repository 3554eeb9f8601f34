"""Jobs that were laid down for want of room: when they go on, and which are none of its business."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from i2v.events import Paused, StateChanged
from i2v.hardware.nvml import Gpu
from i2v.jobs.job.states import State
from i2v.jobs.lane import waits
from i2v.jobs.lane.waits import LENT, ROOM_TO_GO_ON_BYTES, SCOUTED, Waits
from i2v.jobs.list.board import Board
from i2v.jobs.list.rebuild import job_from_folder
from i2v.messages import Message, message
from tests.jobs.support import new_job, ran_to, with_folder

GIB = 2**30
FULL = message("worker.disk_full", folder="outputs", free_mib=0)
TAKEN = message(LENT, program="blender")


class World:
    """The disk and the card as they are now."""

    disk_free_bytes = 0
    card_free_bytes = 0

    def read(self) -> SimpleNamespace:
        free = self.card_free_bytes
        return SimpleNamespace(
            gpu=Gpu(index=0, uuid="GPU-1", name="card", total_bytes=8 * GIB, free_bytes=free, used_bytes=8 * GIB - free)
        )


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr(waits.shutil, "disk_usage", lambda _path: SimpleNamespace(free=world.disk_free_bytes))
    return world


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    board = Board(tmp_path / "outputs")
    yield board
    board.close()


def laid_down(board: Board, reason: Message | None) -> str:
    job = new_job()
    with_folder(board.outputs_dir, job)
    board.store.add(job)
    board.store.transition(job.id, "paused", error=reason)
    return job.id


def state(board: Board, job_id: str) -> State:
    return board.store.get(job_id).state


def test_each_goes_on_when_there_is_what_it_waits_for(board: Board, world: World) -> None:
    for_disk, for_card, by_wish = (laid_down(board, reason) for reason in (FULL, TAKEN, None))
    waiting = Waits(board, world.read)
    waiting.take_up()
    waiting.wake()
    assert [state(board, job_id) for job_id in (for_disk, for_card, by_wish)] == ["paused"] * 3
    assert waiting.card_is_lent
    world.disk_free_bytes = ROOM_TO_GO_ON_BYTES + 1
    waiting.wake()
    assert [state(board, job_id) for job_id in (for_disk, for_card, by_wish)] == ["queued", "paused", "paused"]
    assert board.store.get(for_disk).error is None
    world.card_free_bytes = 8 * GIB
    waiting.wake()
    assert [state(board, job_id) for job_id in (for_disk, for_card, by_wish)] == ["queued", "queued", "paused"]
    assert not waiting


def test_a_scout_that_a_list_made_anew_found_in_its_folder_goes_on_when_told_alone(board: Board, world: World) -> None:
    scout = new_job()
    with_folder(
        board.outputs_dir, scout, *ran_to("running"), Paused(2, message(SCOUTED, step=2)), StateChanged("paused")
    )
    found = job_from_folder(board.outputs_dir / scout.folder)
    assert found is not None
    job_id = laid_down(board, found.error)
    world.disk_free_bytes = ROOM_TO_GO_ON_BYTES + 1
    waiting = Waits(board, world.read)
    waiting.take_up()
    waiting.wake()
    assert (found.state, state(board, job_id)) == ("paused", "paused")


def test_a_job_that_finds_the_disk_full_again_waits_for_twice_as_much(board: Board, world: World) -> None:
    job_id = laid_down(board, FULL)
    waiting = Waits(board, world.read)
    waiting.take_up()
    world.disk_free_bytes = ROOM_TO_GO_ON_BYTES + 1
    waiting.wake()
    board.store.transition(job_id, "paused", error=FULL)
    waiting.for_disk(job_id)
    waiting.wake()
    assert state(board, job_id) == "paused"
    world.disk_free_bytes = 2 * ROOM_TO_GO_ON_BYTES + 1
    waiting.wake()
    assert state(board, job_id) == "queued"


def test_a_job_that_somebody_took_up_or_ended_waits_no_longer(board: Board, world: World) -> None:
    resumed, cancelled = laid_down(board, TAKEN), laid_down(board, TAKEN)
    waiting = Waits(board, world.read)
    waiting.take_up()
    board.store.transition(resumed, "queued")
    board.store.transition(cancelled, "cancelled")
    waiting.wake()
    assert not waiting
    assert not waiting.card_is_lent
    assert [state(board, job_id) for job_id in (resumed, cancelled)] == ["queued", "cancelled"]


def test_a_job_whose_row_is_gone_keeps_no_other_one_waiting(board: Board, world: World) -> None:
    for reason in (FULL, TAKEN):
        gone, other = laid_down(board, reason), laid_down(board, reason)
        waiting = Waits(board, world.read)
        waiting.take_up()
        board.store.transition(gone, "cancelled")
        board.store.delete(gone)
        board.store.forget([gone])
        world.disk_free_bytes, world.card_free_bytes = ROOM_TO_GO_ON_BYTES + 1, 8 * GIB
        waiting.wake()
        assert state(board, other) == "queued"
        assert not waiting
