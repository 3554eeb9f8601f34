"""Who decides about a job looks at its state and acts on it in one go: nobody else decides in between."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from i2v.events import Cancelled, Paused, StateChanged
from i2v.jobs.job.states import AT_WORK, STATES, State
from i2v.jobs.lane.lane import Lane
from i2v.jobs.lane.waits import LENT_OUT
from i2v.jobs.list.board import Board
from i2v.jobs.list.store import JobStore
from i2v.jobs.service import JobService
from i2v.messages import UserError
from tests.jobs.support import new_job, ran_to, with_folder
from tests.jobs_support import SCRIPTED, settings_in

SCOUT = {"stop_at": 3}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[JobService]:
    with JobService(*settings_in(tmp_path), worker_command=SCRIPTED) as service:
        service.pause_queue()
        yield service


def listed(service: JobService, state: State, **more: Any) -> str:
    """A job in that state."""
    job = new_job(state=state, planned=SCOUT, **more)
    with_folder(service._board.outputs_dir, job, *ran_to(state))
    return service._board.store.add(job).id


def planned(service: JobService, job_id: str) -> dict[str, Any] | None:
    return service._board.store.get(job_id).planned


def meanwhile(service: JobService, act: Callable[[], object]) -> bool:
    """Another thread acts, unless somebody is just deciding; whether it could."""
    could = []

    def try_it() -> None:
        if service._board.changed.acquire(blocking=False):
            try:
                act()
                could.append(True)
            finally:
                service._board.changed.release()

    other = threading.Thread(target=try_it)
    other.start()
    other.join()
    return bool(could)


# --- taking a job up ---


@pytest.mark.parametrize("state", STATES)
def test_a_scout_that_is_not_taken_up_still_stops_by_itself(service: JobService, state: State) -> None:
    job_id = listed(service, state)
    assert service.resume(job_id) is (state == "paused")
    assert planned(service, job_id) == (None if state == "paused" else SCOUT)
    assert service._board.store.get(job_id).state == ("queued" if state == "paused" else state)


def test_taking_a_scout_up_is_one_change(service: JobService, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the list does not take it, nothing has changed."""

    def full(*_: object) -> None:
        raise UserError("jobs.outputs_full", folder="outputs", free_mib=0)

    job_id = listed(service, "paused")
    for step in ("set_columns", "_change"):
        with monkeypatch.context() as patched:
            patched.setattr(f"i2v.jobs.list.store.{step}", full)
            with pytest.raises(UserError):
                service.resume(job_id)
        stored = service._board.store.get(job_id)
        assert (stored.state, stored.planned) == ("paused", SCOUT)


def test_unknown_and_deleted_jobs_are_not_taken_up(service: JobService) -> None:
    gone = listed(service, "done")
    service.delete(gone)
    for job_id in ("nothing", gone, "\0", "\ud800"):
        with pytest.raises(UserError) as refused:
            service.resume(job_id)
        assert refused.value.message.id == "jobs.unknown"


def test_a_scout_that_made_room_for_another_program_still_stops_by_itself(
    service: JobService, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = listed(service, "running")
    lane, board = service._lane, service._board
    monkeypatch.setattr(lane, "_first_waiting", lambda: None)  # nothing is to begin here
    lane._running = job_id
    service.lend_card()
    lane._take(board.store.get(job_id), board.record(job_id), Paused(2))
    lane._running = None
    assert board.store.get(job_id).error.id == LENT_OUT
    service.lend_card(False)
    stored = board.store.get(job_id)
    assert (stored.state, stored.planned) == ("queued", SCOUT)


# --- ending it, and laying it down ---


@pytest.mark.parametrize("wish", ["cancel", "pause"])
def test_a_job_that_goes_back_in_line_just_then_hears_the_wish(
    service: JobService, monkeypatch: pytest.MonkeyPatch, wish: str
) -> None:
    job_id = listed(service, "running")
    service._lane._running = job_id
    status = Board.status

    def look(board: Board, of: str) -> Any:
        meanwhile(service, lambda: board.change(of, "queued", StateChanged("queued"), expected=AT_WORK))
        return status(board, of)

    monkeypatch.setattr(Board, "status", look)
    assert getattr(service, wish)(job_id)
    heard = service._lane._to_cancel if wish == "cancel" else service._lane._to_pause
    assert job_id in heard or service._board.store.get(job_id).state in ("cancelled", "paused")


def test_a_job_laid_down_at_the_step_at_which_it_was_to_end_ends(service: JobService) -> None:
    job_id = listed(service, "running")
    lane, board = service._lane, service._board
    lane._running = job_id
    assert service.cancel(job_id)
    lane._take(board.store.get(job_id), board.record(job_id), Paused(2))
    assert board.store.get(job_id).state == "cancelled"
    assert next(event for _, event in board.record(job_id).events() if isinstance(event, Cancelled)).step == 2


def test_a_wish_to_lend_the_card_does_not_wait_for_the_jobs_next_run(
    service: JobService, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = listed(service, "running")
    lane = service._lane
    lane._running = job_id

    def end() -> None:
        """As the lane's thread does when a run is over."""
        lane._running = None
        lane._to_pause.pop(job_id, None)

    def running(_lane: Lane) -> str | None:
        found = lane._running
        meanwhile(service, end)
        return found

    monkeypatch.setattr(Lane, "running", property(running))
    service.lend_card()
    assert (job_id in lane._to_pause) == (lane._running == job_id)


def test_only_what_may_be_changed_is_changed_with_the_state(service: JobService) -> None:
    job_id = listed(service, "paused")
    store: JobStore = service._board.store
    with pytest.raises(TypeError):
        store.transition(job_id, "queued", owner="other")
    assert store.transition(job_id, "queued", seconds_predicted=2.0, planned=None) == store.get(job_id)
