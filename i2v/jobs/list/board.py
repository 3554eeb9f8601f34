"""All jobs of one outputs folder: the list on disk, and the records of those that somebody follows or works on.

The list comes first: a change that it has taken is told to followers, never the other way round. Where the disk does
not take a change that has happened all the same (a run ended), it is kept and written when there is room.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from i2v.events import Event, StateChanged
from i2v.jobs.job.bin import Bin
from i2v.jobs.job.record import JobRecord, JobStatus
from i2v.jobs.job.states import LIVE, NotAllowed, State
from i2v.jobs.job.stored import StoredJob
from i2v.jobs.list.lease import Lease
from i2v.jobs.list.store import JobStore
from i2v.messages import Message, UserError

log = logging.getLogger(__name__)

MINUTE = 60.0  # seconds
ENDED_KEPT = 16  # records of ended jobs in memory; the others are read from their folders when somebody asks
_OF_ROW = ("submitted", "started", "ended", "parent", "task", "priority", "seconds_predicted")  # alike in a status


class Board:
    """Any thread may call. `changed` guards what belongs together across calls, and is notified of every change."""

    def __init__(self, outputs_dir: Path) -> None:
        """Take the folder's lease and open its list. Raises UserError where another process has it, or it cannot be
        written."""
        self.outputs_dir = outputs_dir.absolute()
        self.changed = threading.Condition(threading.RLock())
        self.lease = Lease(self.outputs_dir)
        try:
            self.store = JobStore(self.outputs_dir)
        except BaseException:
            self.lease.release()
            raise
        self.bin = Bin(self.outputs_dir)
        self._live: dict[str, JobRecord] = {}
        self._ended: OrderedDict[str, JobRecord] = OrderedDict()
        self._unwritten: dict[str, tuple[State, Message | None]] = {}

    def close(self) -> None:
        """Let the folder go. Followers come to an end; nothing more is written."""
        with self.changed:
            for record in self._live.values():
                record.close()
            self.store.close()
            self.lease.release()

    def known(self, job_id: str) -> StoredJob:
        """The job as the list has it. Raises UserError for an unknown id, and for a deleted job."""
        job = self.store.get(job_id)
        if job.deleted is not None:
            raise UserError("jobs.unknown", id=job_id)
        return job

    def knows(self, job_id: str) -> bool:
        """Whether the job is in the list or in the bin; where the list cannot be read, it may be."""
        try:
            self.store.get(job_id)
        except UserError as error:
            return error.message.id != "jobs.unknown"
        return True

    def folder(self, job: StoredJob) -> Path:
        """The job's folder, absolute."""
        return self.outputs_dir / job.folder

    def refuse_if_too_fast(self, owner: str, now: float, limit: int) -> None:
        """Raises UserError where `owner` has sent `limit` jobs within the minute before `now`, in unix seconds."""
        recent = self.store.submitted(owner, now - MINUTE, now)
        if len(recent) >= limit:
            raise UserError("jobs.too_fast", limit=limit, seconds=math.ceil(recent[-limit] + MINUTE - now))

    def add(
        self,
        job: StoredJob,
        events: Collection[Event],
        *,
        max_waiting: int,
        max_of_owner: int,
        max_per_minute: int,
    ) -> None:
        """Put a new job, whose folder is there, in the list. Raises UserError where too many wait, or come too fast."""
        with self.changed:
            # Counted up to the present, not up to this job's own time: a job that arrived at the same moment may have
            # a slightly later time and be in the list already.
            self.refuse_if_too_fast(job.owner, time.time(), max_per_minute)
            if self.store.count().get(job.owner, 0) >= max_of_owner:
                raise UserError("jobs.owner_full", limit=max_of_owner)
            job = self.store.add(job, max_waiting=max_waiting)
            record = JobRecord(job.id, self.folder(job), job.request, job.plan, job.entry, job.owner, job.card)
            self._live[job.id] = record
            for event in (StateChanged("queued"), *events):
                record.append(event)
            self.changed.notify_all()

    def record(self, job_id: str) -> JobRecord:
        """The job's record, read from its folder where it is not in memory. Raises UserError for an unknown id."""
        if not isinstance(job_id, str):
            raise UserError("jobs.unknown", id=str(job_id))
        with self.changed:
            if job_id in self._live:
                return self._live[job_id]
            if job_id in self._ended:
                self._ended.move_to_end(job_id)
                return self._ended[job_id]
            # Read within: a second record of a job at work would write to the same folder.
            record = JobRecord.resume(self.known(job_id), self.outputs_dir)
            if record.ended:
                self._keep_ended(record)
            else:
                self._live[job_id] = record
            return record

    def status(self, job_id: str) -> JobStatus:
        """Where the job stands, without its place in the queue. Raises UserError for an unknown id."""
        return self._status(self.known(job_id))

    def statuses(
        self, owner: str | None = None, limit: int | None = None, states: Collection[State] | None = None
    ) -> list[JobStatus]:
        """Every job in the list, newest first; an ended one from the list alone where it is not in memory."""
        return [self._status(job) for job in self.store.jobs(owner=owner, limit=limit, states=states)]

    def change(
        self,
        job_id: str,
        to: State,
        event: Event | None = None,
        *,
        expected: Collection[State],
        error: Message | None = None,
        **changes: Any,
    ) -> bool:
        """Change the state of a job, and of its row what `JobStore.transition` takes, tell its followers, and whether
        it was in one of `expected`: nothing has changed where it was not. `event` is what they are told first; one
        that ends a job says the state by itself."""
        with self.changed:
            record = self.record(job_id)
            try:
                self.store.transition(job_id, to, expected=expected, error=error, **changes)
            except NotAllowed:
                return False
            self._tell(record, to, event)
            return True

    def ended(self, job_id: str, path: Collection[State], event: Event, error: Message | None = None) -> None:
        """What a run came to, through the states of `path`; kept in memory where the disk does not take it."""
        with self.changed:
            record = self.record(job_id)
            to = tuple(path)[-1]
            self._unwritten[job_id] = (to, error)
            self._write_down(job_id)
            self._tell(record, to, event)

    def write_down(self) -> bool:
        """Try again to write what the disk did not take; whether all is written now."""
        with self.changed:
            for job_id in list(self._unwritten):
                self._write_down(job_id)
            return not self._unwritten

    def delete(self, job_id: str) -> None:
        """Move an ended job to the bin. Raises UserError."""
        with self.changed:
            job = self.store.delete(job_id)
            self._ended.pop(job_id, None)
            try:
                self.bin.put(self.folder(job))
            except BaseException:
                if self.folder(job).is_dir():  # it has not moved: a job in neither place could not be brought back
                    self.store.restore(job_id)
                raise

    def restore(self, job_id: str) -> None:
        """Bring a deleted job back. Raises UserError."""
        with self.changed:
            job = self.store.get(job_id)
            moved = job.deleted is not None and self.folder(job).is_dir() and not self.bin.place(job_id).is_dir()
            if not moved:  # else an earlier try came as far as that
                self.bin.restore(job_id, self.folder(job))
            self.store.restore(job_id)

    def _status(self, job: StoredJob) -> JobStatus:
        with self.changed:
            record = self._live.get(job.id) or self._ended.get(job.id)
        if record is None and job.state in LIVE:
            record = self.record(job.id)
        row = {name: getattr(job, name) for name in _OF_ROW}
        return replace(JobStatus.of(job, self.folder(job)), **row) if record is None else record.status(**row)

    def _tell(self, record: JobRecord, to: State, event: Event | None) -> None:
        if event is not None:
            record.append(event)
        if not record.ended and record.progress.state != to:
            record.append(StateChanged(to))
        if record.ended:
            self._live.pop(record.id, None)
            self._keep_ended(record)
        self.changed.notify_all()

    def _keep_ended(self, record: JobRecord) -> None:
        self._ended[record.id] = record
        self._ended.move_to_end(record.id)
        while len(self._ended) > ENDED_KEPT:
            self._ended.popitem(last=False)

    def _write_down(self, job_id: str) -> None:
        to, error = self._unwritten[job_id]
        try:
            if to == "done":
                self._try("decoding", job_id)
            self.store.transition(job_id, to, error=error)
        except UserError as problem:
            log.warning("%s is %s, which could not be written: %s", job_id, to, problem)
            return
        except NotAllowed as problem:
            log.warning("%s", problem)
        del self._unwritten[job_id]

    def _try(self, to: State, job_id: str) -> None:
        try:
            self.store.transition(job_id, to)
        except NotAllowed:
            return
