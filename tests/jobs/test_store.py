"""The list of jobs: what was acknowledged is there after any crash, and nothing is there by half."""

from __future__ import annotations

import errno
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from i2v.events import FINAL_STATES
from i2v.jobs.job import states
from i2v.jobs.job.states import ALLOWED, LIVE, STATES, NotAllowed
from i2v.jobs.list import schema
from i2v.jobs.list.store import JobStore
from i2v.messages import UserError, message
from tests.jobs.support import filled, new_job, small_disk

ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    with JobStore(tmp_path) as store:
        yield store


def said(call: Any, *args: Any, **more: Any) -> str:
    """The id of what is said instead of an answer."""
    with pytest.raises(UserError) as caught:
        call(*args, **more)
    assert caught.value.message.render("zh-CN")
    return caught.value.message.id


# --- what is kept ---


def test_every_field_is_kept(tmp_path: Path) -> None:
    planned = {"fixed": ["cfg"], "ladder": [{"cfg": "split"}]}
    full = new_job("ann", priority=2, planned=planned, card="GPU-1", seconds_predicted=4.5, parent="x", task="decode")
    bare = replace(new_job(), entry=None)
    with JobStore(tmp_path) as store:
        kept = [store.add(full), store.add(bare)]
    assert kept == [replace(full, place=1), replace(bare, place=2)]
    with JobStore(tmp_path) as store:
        assert [store.get(job.id) for job in (full, bare)] == kept
        assert store.notes == ()


def test_the_list_lies_in_a_hidden_folder_and_is_flushed(store: JobStore, tmp_path: Path) -> None:
    assert store.path == tmp_path / ".i2v" / "jobs.sqlite"
    pragmas = {name: store._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")}
    assert pragmas == {"journal_mode": "wal", "synchronous": 2}


def test_an_unknown_job_is_said(store: JobStore) -> None:
    for odd in ("20261120", "", "\ud800", None, 7, {"id": 1}, b"x"):
        assert said(store.get, odd) == "jobs.unknown"
    calls = (lambda i: store.transition(i, "running"), lambda i: store.move(i, 1), lambda i: store.set_priority(i, 1))
    for call in (*calls, store.delete, store.restore, lambda i: store.update(i, card="x")):
        assert said(call, "none") == "jobs.unknown"


def test_the_newest_come_first_by_page_owner_and_state(store: JobStore) -> None:
    jobs = [store.add(new_job(owner)) for owner in ("ann", "bob", "ann")]
    store.transition(jobs[0].id, "running")
    ids = [job.id for job in reversed(jobs)]
    assert [job.id for job in store.jobs()] == ids
    assert [job.id for job in store.jobs(limit=1, offset=1)] == ids[1:2]
    assert [job.id for job in store.jobs(owner="ann", states=("queued",))] == [jobs[2].id]
    assert store.count() == {"ann": 2, "bob": 1}
    assert store.count(("queued",)) == {"ann": 1, "bob": 1}


def test_a_full_queue_takes_no_more(store: JobStore) -> None:
    job = store.add(new_job(), max_waiting=1)
    assert said(store.add, new_job(), max_waiting=1) == "jobs.queue_full"
    assert len(store.jobs()) == 1
    store.transition(job.id, "running")
    store.add(new_job(), max_waiting=1)


def test_what_may_change_changes_and_nothing_else(store: JobStore) -> None:
    job = store.add(new_job())
    plan = replace(job.plan, cfg="split")
    changed = store.update(job.id, plan=plan, planned={"a": 1}, seconds_predicted=2.0)
    assert changed == replace(job, plan=plan, planned={"a": 1}, seconds_predicted=2.0) == store.get(job.id)
    with pytest.raises(TypeError):
        store.update(job.id, state="done")


# --- states ---


def test_every_state_can_be_reached_and_what_has_ended_stays() -> None:
    reached, frontier = {"queued"}, {"queued"}
    while frontier:
        frontier = set().union(*(ALLOWED[state] for state in frontier)) - reached
        reached |= frontier
    assert reached == set(STATES) == set(ALLOWED)
    assert {state for state in STATES if not ALLOWED[state]} == set(FINAL_STATES) == set(STATES) - set(LIVE)


@pytest.mark.parametrize(("state", "to"), product(STATES, STATES))
def test_every_pair_of_states(store: JobStore, state: states.State, to: states.State) -> None:
    job = store.add(new_job(state=state))
    error = message("jobs.closed") if to == "failed" else None
    if to not in ALLOWED[state]:
        with pytest.raises(NotAllowed):
            store.transition(job.id, to)
        assert store.get(job.id) == job
        return
    with pytest.raises(NotAllowed):
        store.transition(job.id, to, expected=set(STATES) - {state})
    assert store.get(job.id) == job
    before = time.time()
    changed = store.transition(job.id, to, expected=(state,), error=error)
    assert changed == store.get(job.id)
    assert (changed.state, changed.error) == (to, error)
    assert changed.attempts == (1 if to == "running" else 0)
    for moment, there in ((changed.started, to == "running"), (changed.ended, to in FINAL_STATES)):
        assert (before <= moment <= time.time()) if there else moment is None


def test_of_two_that_decide_at_once_one_is_told(store: JobStore) -> None:
    """A job cancelled at the moment it is started: exactly one of the two happens."""
    jobs = [store.add(new_job()) for _ in range(20)]
    won: list[tuple[str, str]] = []
    ready = threading.Barrier(2)

    def decide(to: states.State) -> None:
        for job in jobs:
            ready.wait()
            try:
                store.transition(job.id, to, expected=("queued",))
                won.append((job.id, to))
            except NotAllowed:
                pass

    threads = [threading.Thread(target=decide, args=(to,)) for to in ("running", "cancelled")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == sorted((job.id, store.get(job.id).state) for job in jobs)


def test_what_ran_waits_again_with_its_attempts(tmp_path: Path) -> None:
    with JobStore(tmp_path) as store:
        jobs = {state: store.add(new_job(state=state)) for state in STATES}
        waiting = store.add(new_job())
        store.transition(waiting.id, "running")
    with JobStore(tmp_path) as store:
        back = {job.id for job in store.recover()}
        assert back == {jobs["running"].id, jobs["decoding"].id, waiting.id}
        assert (store.get(waiting.id).state, store.get(waiting.id).attempts) == ("queued", 1)
        assert {s: store.get(job.id).state for s, job in jobs.items() if job.id not in back} == {
            s: s for s in STATES if s not in ("running", "decoding")
        }
        assert store.recover() == ()


# --- the queue ---


def ids(jobs: list[Any]) -> list[str]:
    return [job.id for job in jobs]


def test_owners_take_turns_over_a_restart(tmp_path: Path) -> None:
    with JobStore(tmp_path) as store:
        a1, a2, b1 = (store.add(new_job(owner)) for owner in ("ann", "ann", "bob"))
        assert ids(store.waiting()) == ids([a1, b1, a2])
        store.transition(a1.id, "running")
    with JobStore(tmp_path) as store:
        assert ids(store.waiting()) == ids([b1, a2])
        store.set_priority(a2.id, 1)
        assert ids(store.waiting()) == ids([a2, b1])


def test_the_line_is_never_an_old_one(store: JobStore) -> None:
    """It is kept between changes; whatever changes, it is what the list says."""
    first, second, third, ended = (store.add(new_job(state=state)) for state in ("queued", "queued", "queued", "done"))

    def fail() -> None:
        with pytest.raises(NotAllowed):
            store.transition(ended.id, "queued")

    changes: tuple[Callable[[], object], ...] = (
        lambda: store.add(new_job("bob")),
        lambda: store.transition(second.id, "running"),
        lambda: store.update(third.id, seconds_predicted=3.0),
        lambda: store.move(third.id, 1),
        lambda: store.set_priority(third.id, 5),
        lambda: store.recover(),
        lambda: store.transition(first.id, "cancelled"),
        lambda: store.delete(first.id),
        lambda: store.restore(first.id),
        fail,
    )
    for change in changes:
        store.waiting().clear()  # what was handed out is nobody else's
        change()
        kept = store.waiting()
        store._queue = None
        assert kept == store.waiting() == [store.get(job.id) for job in kept]
        assert {job.id for job in kept} == {job.id for job in store.jobs(states=("queued",))}
    assert [job.seconds_predicted for job in store.waiting() if job.id == third.id] == [3.0]


@pytest.mark.parametrize("position", [-3, 1, 2, 3, 4, 99])
def test_a_job_moves_within_its_owners_line(store: JobStore, position: int) -> None:
    line = [store.add(new_job("ann")) for _ in range(4)]
    other, urgent = store.add(new_job("bob")), store.add(new_job("ann", priority=1))
    moved = line[2]
    store.move(moved.id, position)
    expected = [job for job in line if job is not moved]
    expected.insert(max(position, 1) - 1, moved)
    assert [job.id for job in store.waiting() if job.owner == "ann"] == ids([urgent, *expected])
    assert store.get(other.id) == other
    assert store.get(urgent.id) == urgent
    store.transition(moved.id, "running")
    with pytest.raises(NotAllowed):
        store.move(moved.id, 1)


def test_a_paused_queue_stays_paused(tmp_path: Path) -> None:
    for paused in (True, False):
        with JobStore(tmp_path) as store:
            assert store.queue_paused is not paused
            store.pause_queue(paused)
            assert store.queue_paused is paused


# --- the bin ---


def test_a_deleted_job_leaves_the_list_and_comes_back(store: JobStore) -> None:
    job = store.add(new_job(state="done"))
    assert said(store.delete, store.add(new_job(state="paused")).id) == "jobs.not_ended"
    gone = store.delete(job.id)
    assert time.time() - gone.deleted < 60
    assert store.delete(job.id) == gone
    assert job.id not in ids(store.jobs())
    assert ids(store.jobs(deleted=True)) == [job.id]
    assert store.restore(job.id) == job
    store.forget([job.id])
    assert store.get(job.id) == job
    store.delete(job.id)
    store.forget([job.id])
    assert said(store.get, job.id) == "jobs.unknown"


def test_a_deleted_job_does_not_run(store: JobStore) -> None:
    job = store.add(new_job(deleted=1.0))
    with pytest.raises(NotAllowed):
        store.transition(job.id, "running")
    assert (store.waiting(), store.count()) == ([], {})


# --- crashes ---


def test_killed_at_any_moment_everything_acknowledged_is_there(tmp_path: Path) -> None:
    with JobStore(tmp_path) as store:
        jobs = {store.add(new_job()).id: "queued" for _ in range(5)}
    attempts = dict.fromkeys(jobs, 0)
    pick, acknowledged = random.Random(5), 0
    for kill in range(20):
        command = [sys.executable, "-m", "tests.jobs.transitions", str(tmp_path), str(kill)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout.readline() == "open\n"
            # By what it has done: a busy machine does little in any time.
            lines = [child.stdout.readline().rstrip("\n") for _ in range(pick.randrange(32))]
            time.sleep(pick.uniform(0, 0.005))
            child.kill()
            lines += child.stdout.read().split("\n")
        tried = None
        for line in lines[:-1]:  # the last has no end: it was being said
            if line == "ok":
                jobs[tried[0]] = tried[1]
                attempts[tried[0]] += tried[1] == "running"
                acknowledged += 1
                tried = None
            else:
                tried = line.split()[1:]
        with JobStore(tmp_path) as store:
            assert store.notes == ()
            for job_id, state in jobs.items():
                job = store.get(job_id)
                happened = (job.state, job.attempts) != (state, attempts[job_id])
                if happened:  # the one that was not acknowledged: wholly there
                    assert tried is not None
                    assert [job_id, job.state] == tried
                    assert job.attempts == attempts[job_id] + (job.state == "running")
                    jobs[job_id], attempts[job_id] = job.state, job.attempts
                assert (job.started is not None) == (job.attempts > 0)
                assert (job.ended is not None) == (job.state in FINAL_STATES)
    assert acknowledged > 100


def test_a_full_disk_is_said_and_the_list_works_on(tmp_path: Path) -> None:
    with small_disk(tmp_path / "outputs", 512) as outputs, JobStore(outputs) as store:
        job = store.add(new_job())
        with filled(outputs):
            refused: list[str] = []
            for _ in range(60):  # the first few go where the last commits left room
                try:
                    job = store.add(new_job())
                except UserError as error:
                    refused.append(error.message.id)
                assert store.get(job.id) == job
            assert len(refused) > 20
            assert set(refused) == {"jobs.outputs_full"}
            kept = store.jobs()
            assert said(store.transition, job.id, "running") == "jobs.outputs_full"
            assert store.jobs() == kept
            assert store.get(job.id).attempts == 0
        assert store.transition(job.id, "running").attempts == 1
        kept = store.jobs()
        store.close()
        with JobStore(outputs) as again:
            assert again.jobs() == kept
            assert again.notes == ()


def test_a_list_cannot_be_made_on_a_full_disk(tmp_path: Path) -> None:
    with small_disk(tmp_path / "outputs", 64) as outputs:
        with filled(outputs):
            assert said(JobStore, outputs) == "jobs.outputs_full"
        with JobStore(outputs) as store:
            store.add(new_job())


def test_a_disk_that_fails_is_said_in_its_words(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing:
        in_transaction = False

        def execute(self, *_: object) -> None:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
            raise error

    whole = store._db
    monkeypatch.setattr(store, "_db", Failing())
    with pytest.raises(UserError) as caught:
        store.add(new_job())
    assert caught.value.message.id == "jobs.outputs_not_writable"
    assert caught.value.message.params["reason"] == "disk I/O error"
    monkeypatch.setattr("i2v.jobs.list.file.free_mib", lambda folder: 0)
    assert said(store.jobs) == "jobs.outputs_full"
    monkeypatch.setattr(store, "_db", whole)
    assert store.jobs() == []


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert said(JobStore, tmp_path / "file") == "jobs.outputs_not_writable"
    (tmp_path / ".i2v").touch()
    assert said(JobStore, tmp_path) == "jobs.outputs_not_writable"


def test_a_list_that_another_has_open_is_not_taken_for_broken(
    store: JobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = store.add(new_job())
    monkeypatch.setattr("i2v.jobs.list.file._LOCKED_SECONDS", 0.05)
    assert said(JobStore, tmp_path) == "jobs.outputs_not_writable"
    assert [path.name for path in store.path.parent.glob("*.broken*")] == []
    assert store.transition(job.id, "running").state == "running"


# --- versions ---


def test_the_tables_are_as_released() -> None:
    """Version 1 is out: whoever changes it adds a step instead."""
    db = sqlite3.connect(":memory:")
    schema.migrate(db, 0)
    columns = {row[1]: row[2] for row in db.execute("PRAGMA table_info(jobs)")}
    assert set(columns) == set(schema.COLUMNS) == set(asdict(new_job()))
    assert db.execute("PRAGMA user_version").fetchone()[0] == len(schema.MIGRATIONS)


def test_an_older_list_is_brought_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with JobStore(tmp_path) as store:
        job = store.add(new_job())
    with monkeypatch.context() as later:
        step = ("ALTER TABLE jobs ADD COLUMN stars INTEGER NOT NULL DEFAULT 3", "UPDATE jobs SET owner = 'moved'")
        later.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, step))
        later.setattr("i2v.jobs.list.file.MIGRATIONS", schema.MIGRATIONS)
        for _ in range(2):
            with JobStore(tmp_path) as store:
                assert store.notes == ()
                assert store.get(job.id) == replace(job, owner="moved")
                assert store._db.execute("SELECT stars FROM jobs").fetchone()[0] == 3
                assert store._db.execute("PRAGMA user_version").fetchone()[0] == len(schema.MIGRATIONS)


def test_a_step_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with JobStore(tmp_path) as store:
        job = store.add(new_job())

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as later:
        later.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, ("DELETE FROM jobs",)))
        later.setattr("i2v.jobs.list.file.MIGRATIONS", schema.MIGRATIONS)
        later.setattr("i2v.jobs.list.file._agree", fail)
        assert said(JobStore, tmp_path) == "jobs.outputs_full"
    with JobStore(tmp_path) as store:
        assert store.jobs() == [job]
