"""The list of jobs on disk: what was acknowledged is there after any crash.

One SQLite file, `outputs/.i2v/jobs.sqlite`, in WAL mode with every transaction flushed to disk before it is
acknowledged. A transition is one transaction, which checks the state it starts from. The job folders hold everything
that the list needs to be made anew: a file that can not be read is set aside, never repaired and never deleted.

The lease (`i2v/jobs/list/lease.py`) comes first: one process has the list open.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from i2v.events import FINAL_STATES
from i2v.jobs.job.states import ALLOWED, AT_WORK, LIVE, NotAllowed, State
from i2v.jobs.job.stored import StoredJob, hidden_folder
from i2v.jobs.list.file import insert, list_errors, open_list, set_columns, transaction
from i2v.jobs.list.order import fair_order
from i2v.jobs.list.schema import columns_of, job_of
from i2v.messages import Message, UserError

log = logging.getLogger(__name__)

FILE = "jobs.sqlite"
CHANGEABLE = frozenset({"request", "plan", "entry", "planned", "card", "seconds_predicted"})


class JobStore:
    """The list of one outputs folder. Any thread may call. Every method raises UserError where the disk is full or
    refuses; nothing has changed then, and the next call finds the list as usable as before."""

    def __init__(self, outputs_dir: Path) -> None:
        """Open the list, made from the job folders where there is none that can be used. `notes` then says what
        happened. Raises UserError where the folder cannot be written."""
        self.outputs_dir = outputs_dir
        self.path = hidden_folder(outputs_dir) / FILE
        self._lock = threading.RLock()  # one connection, which takes one caller at a time
        self._db, said = open_list(self.path, outputs_dir)
        self._queue: list[StoredJob] | None = None  # what `waiting` says, until something changes
        self.notes: tuple[Message, ...] = (said,) if said else ()
        for note in self.notes:
            log.warning("%s", note.render())

    def __enter__(self) -> JobStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. The store is of no use afterwards."""
        with self._lock:
            self._db.close()

    # --- jobs ---

    def add(self, job: StoredJob, *, max_waiting: int | None = None) -> StoredJob:
        """Put a job in the list, last in its owner's line; returned with its place. Raises UserError
        (`jobs.queue_full`) where `max_waiting` jobs are queued already."""
        with self._transaction() as db:
            waiting = db.execute("SELECT COUNT(*) FROM jobs WHERE state = 'queued' AND deleted IS NULL").fetchone()[0]
            if max_waiting is not None and waiting >= max_waiting:
                raise UserError("jobs.queue_full", limit=max_waiting)
            return insert(db, job)

    def get(self, job_id: str) -> StoredJob:
        """The job, deleted or not. Raises UserError (`jobs.unknown`)."""
        with self._reading() as db:
            return _job(db, job_id)

    def jobs(
        self,
        *,
        states: Collection[State] | None = None,
        owner: str | None = None,
        deleted: bool = False,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[StoredJob]:
        """The jobs in the list, or those in the bin, the newest first."""
        where, values = ["deleted IS NOT NULL" if deleted else "deleted IS NULL"], []
        if states is not None:
            where.append(f"state IN ({', '.join('?' * len(states))})")
            values += states
        if owner is not None:
            where.append("owner = ?")
            values.append(owner)
        query = f"SELECT * FROM jobs WHERE {' AND '.join(where)} ORDER BY submitted DESC, id DESC LIMIT ? OFFSET ?"
        with self._reading() as db:
            return [job_of(row) for row in db.execute(query, (*values, -1 if limit is None else limit, offset))]

    def transition(
        self,
        job_id: str,
        to: State,
        *,
        expected: Collection[State] | None = None,
        error: Message | None = None,
        **changes: Any,
    ) -> StoredJob:
        """Change a job's state, and some of CHANGEABLE with it, and return the job as it then is. Raises NotAllowed
        where `to` does not follow from its state, or that is none of `expected`; UserError for an unknown id.

        To "running" counts an attempt, and is the owner's turn; a final state has its time, and `error` with it."""
        _refuse_unchangeable(changes)
        with self._transaction() as db:
            job = _job(db, job_id)
            if (
                job.deleted is not None
                or to not in ALLOWED[job.state]
                or (expected is not None and job.state not in expected)
            ):
                raise NotAllowed(job_id, job.state, to)
            if changes:
                set_columns(db, job_id, columns_of(changes))
            return replace(_change(db, job, to, error), **changes)

    def update(self, job_id: str, **changes: Any) -> StoredJob:
        """Change some of CHANGEABLE: a job that is planned again. Raises UserError for an unknown id."""
        _refuse_unchangeable(changes)
        with self._transaction() as db:
            _job(db, job_id)
            set_columns(db, job_id, columns_of(changes))
            return _job(db, job_id)

    def recover(self) -> tuple[StoredJob, ...]:
        """At the start, before anything runs: jobs that a process was at work on when everything ended wait again, at
        their old place. Returns them."""
        with self._transaction() as db:
            marks = ", ".join("?" * len(AT_WORK))
            rows = db.execute(f"SELECT * FROM jobs WHERE state IN ({marks}) AND deleted IS NULL", AT_WORK).fetchall()
            return tuple(_change(db, job_of(row), "queued", None) for row in rows)

    # --- the queue ---

    def waiting(self) -> list[StoredJob]:
        """The queued jobs in the order in which they will run (`fair_order`)."""
        with self._reading() as db:
            if self._queue is None:
                rows = db.execute("SELECT * FROM jobs WHERE state = 'queued' AND deleted IS NULL").fetchall()
                served = {row["owner"]: row["turn"] for row in db.execute("SELECT owner, turn FROM served")}
                self._queue = fair_order(map(job_of, rows), served)
            return list(self._queue)

    def count(self, states: Collection[State] = LIVE) -> Mapping[str, int]:
        """How many jobs in one of `states` each owner has in the list; owners without any are left out."""
        marks = ", ".join("?" * len(states))
        query = f"SELECT owner, COUNT(*) FROM jobs WHERE state IN ({marks}) AND deleted IS NULL GROUP BY owner"
        with self._reading() as db:
            return dict(map(tuple, db.execute(query, tuple(states))))

    def submitted(self, owner: str, since: float, until: float) -> list[float]:
        """When `owner` sent jobs after `since`, oldest first, in unix seconds; those in the bin as well. Times after
        `until`, of a clock that was put back, are left out."""
        query = "SELECT submitted FROM jobs WHERE owner = ? AND submitted > ? AND submitted <= ? ORDER BY submitted"
        with self._reading() as db:
            return [row[0] for row in db.execute(query, (owner, since, until))]

    def move(self, job_id: str, position: int) -> StoredJob:
        """Put a queued job at `position`, from 1, of its owner's line of equal priority; nobody gets ahead of anybody
        else by it. Past the end is last. Raises NotAllowed for a job that does not wait; UserError."""
        with self._transaction() as db:
            job = _job(db, job_id)
            if job.state != "queued" or job.deleted is not None:
                raise NotAllowed(job_id, job.state, "queued")
            line = db.execute(
                "SELECT id, place FROM jobs WHERE state = 'queued' AND deleted IS NULL AND owner = ? AND priority = ? "
                "ORDER BY place",
                (job.owner, job.priority),
            ).fetchall()
            ids = [row["id"] for row in line if row["id"] != job_id]
            ids.insert(max(position, 1) - 1, job_id)
            for other, row in zip(ids, line, strict=True):  # the same places, dealt out anew
                set_columns(db, other, {"place": row["place"]})
            return _job(db, job_id)

    def set_priority(self, job_id: str, priority: int) -> StoredJob:
        """Higher runs first, whoever's it is; 0 is usual. Raises UserError for an unknown id."""
        with self._transaction() as db:
            _job(db, job_id)
            set_columns(db, job_id, {"priority": priority})
            return _job(db, job_id)

    @property
    def queue_paused(self) -> bool:
        """Whether no further job is to be started; kept over restarts."""
        with self._reading() as db:
            row = db.execute("SELECT is_on FROM switches WHERE name = 'queue_paused'").fetchone()
            return bool(row and row["is_on"])

    def pause_queue(self, paused: bool = True) -> None:
        """Start no further job, or go on."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO switches VALUES ('queue_paused', ?)", (int(paused),))

    # --- the bin ---

    def delete(self, job_id: str) -> StoredJob:
        """Take an ended job out of the list; `Bin.put` moves its folder. Raises UserError: `jobs.not_ended`, or for an
        unknown id."""
        with self._transaction() as db:
            job = _job(db, job_id)
            if job.state not in FINAL_STATES:
                raise UserError("jobs.not_ended", id=job_id)
            if job.deleted is None:
                set_columns(db, job_id, {"deleted": time.time()})
            return _job(db, job_id)

    def restore(self, job_id: str) -> StoredJob:
        """Put a deleted job back in the list, once `Bin.restore` has moved its folder. Raises UserError."""
        with self._transaction() as db:
            _job(db, job_id)
            set_columns(db, job_id, {"deleted": None})
            return _job(db, job_id)

    def forget(self, job_ids: Collection[str]) -> None:
        """Drop the rows of jobs that left the bin for good, and of no others."""
        with self._transaction() as db:
            db.executemany("DELETE FROM jobs WHERE id = ? AND deleted IS NOT NULL", [(job_id,) for job_id in job_ids])

    # --- the file ---

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, list_errors(self.path, self.outputs_dir):
            yield self._db

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._reading() as db:
            try:
                with transaction(db):
                    yield db
            finally:
                self._queue = None


def _refuse_unchangeable(changes: Mapping[str, Any]) -> None:
    if not changes.keys() <= CHANGEABLE:
        raise TypeError(f"not to be changed: {sorted(changes.keys() - CHANGEABLE)}")


def _job(db: sqlite3.Connection, job_id: str) -> StoredJob:
    try:
        row = db.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()
    except (
        sqlite3.ProgrammingError,
        sqlite3.InterfaceError,
        UnicodeEncodeError,
    ):  # not a text that SQLite takes, and so none of our ids
        row = None
    if row is None:
        raise UserError("jobs.unknown", id=str(job_id))
    return job_of(row)


def _change(db: sqlite3.Connection, job: StoredJob, to: State, error: Message | None) -> StoredJob:
    now = time.time()
    job = replace(job, state=to, error=error, ended=now if to in FINAL_STATES else None)
    if to == "running":
        job = replace(job, started=now, attempts=job.attempts + 1)
        turn = db.execute("SELECT COALESCE(MAX(turn), 0) + 1 FROM served").fetchone()[0]
        db.execute("INSERT OR REPLACE INTO served VALUES (?, ?)", (job.owner, turn))
    changed = {name: getattr(job, name) for name in ("state", "error", "started", "ended", "attempts")}
    set_columns(db, job.id, columns_of(changed))
    return job
