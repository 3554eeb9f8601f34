"""One job as the service knows it: its events in order, what they add up to, and the same on disk.

Followers read the list under a condition, each at its own pace; nothing is queued for anybody, so a follower that
stops reading costs nothing. `events.jsonl` and `memory.csv` in the job folder grow with the list, and a record can be
taken up from them again: one that has ended needs no memory until somebody asks.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import threading
import time
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from operator import itemgetter
from pathlib import Path
from typing import Any

from i2v import events
from i2v.events import FINAL_STATES, Cancelled, Done, Event, Failed, MemorySampled, Noted, StateChanged
from i2v.job_progress import JobProgress
from i2v.jobs.job.history import EVENTS, MEMORY, mend_records, read_history
from i2v.jobs.job.stored import StoredJob
from i2v.messages import Message, message
from i2v.models.entry import ModelEntry
from i2v.plan import Plan
from i2v.request import GenerationRequest

log = logging.getLogger(__name__)

MEMORY_COLUMNS = ("time", *(field.name for field in fields(MemorySampled)))
_ENDINGS: dict[type, str] = {Done: "done", Failed: "failed", Cancelled: "cancelled"}


@dataclass(frozen=True)
class JobStatus:
    """Where a job stands. `step` of `steps` counts denoising steps, or frames once `phase` is "decode";
    `seconds_left` covers that phase and is None while unknown. `position` is the place in the queue, 1 for next,
    0 for a job that does not wait; `starts_in` the seconds until its turn, None where that is unknown. `worker_pid` is
    the process that runs or ran it. `resumed_from_step`: where a run went on from what an earlier one had kept.
    `healed`: the rungs taken when memory ran out. `submitted`, `started`, `ended`: unix seconds. `parent` is the job
    that this one repeats."""

    id: str
    state: str
    phase: str
    step: int
    steps: int
    seconds_left: float | None
    error: Message | None
    worker_pid: int | None
    position: int
    folder: Path
    request: GenerationRequest
    plan: Plan
    owner: str
    resumed_from_step: int | None = None
    healed: tuple[str, ...] = ()
    starts_in: float | None = None
    submitted: float = 0.0
    started: float | None = None
    ended: float | None = None
    parent: str | None = None
    task: str = "generate"
    priority: int = 0
    seconds_predicted: float | None = None
    waits_for: Message | None = None
    """What a queued job waits for beside its turn, its model that is still to come; why a paused one was laid down."""

    @classmethod
    def of(cls, job: StoredJob, folder: Path) -> JobStatus:
        """What the list alone tells: for a job that has ended, all but how far it came."""
        return cls(
            id=job.id, state=job.state, phase="", step=0, steps=job.steps, seconds_left=None,
            error=job.error, worker_pid=None, position=0, folder=folder, request=job.request, plan=job.plan,
            owner=job.owner,
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """What a client asks for; `error` has the message's id and parameters, and `text` in English."""
        return {
            "id": self.id,
            "state": self.state,
            "phase": self.phase,
            "step": self.step,
            "steps": self.steps,
            "seconds_left": self.seconds_left,
            "error": self.error and {**self.error.to_json(), "text": self.error.render()},
            "waits_for": self.waits_for and {**self.waits_for.to_json(), "text": self.waits_for.render()},
            "worker_pid": self.worker_pid,
            "position": self.position,
            "starts_in": self.starts_in,
            "resumed_from_step": self.resumed_from_step,
            "healed": list(self.healed),
            "parent": self.parent,
            "task": self.task,
            "prompt": self.request.prompt,
            "model": self.request.model,
            "submitted": self.submitted,
            "started": self.started,
            "ended": self.ended,
        }


class JobRecord:
    """The events of one job. Any thread may append or follow; after the final state nothing is appended."""

    def __init__(
        self,
        job_id: str,
        folder: Path,
        request: GenerationRequest,
        plan: Plan,
        entry: ModelEntry | None,
        owner: str,
        card: str = "",
    ) -> None:
        """`card` is the UUID of the card the job runs on, empty for none."""
        self.entry = entry
        self.card = card
        self.folder = folder
        self._events: list[tuple[int, Event]] = []
        self._changed = threading.Condition(threading.RLock())
        self._on_disk = True
        self._told_of_disk = False
        self._unwritten: list[tuple[int, float, Event]] = []
        self._closed = False
        self._progress = JobProgress()
        self._status = JobStatus.of(StoredJob(job_id, "", request, plan, entry, 0.0, owner=owner), folder)

    @classmethod
    def resume(cls, job: StoredJob, outputs_dir: Path) -> JobRecord:
        """The record of a job from an earlier start, from its folder; the next event gets the next number. Where the
        folder says another state than the list, the list is right, and the record is told so. What cannot be read is
        as if it had not happened."""
        record = cls(
            job.id, outputs_dir.absolute() / job.folder, job.request, job.plan, job.entry, job.owner, card=job.card
        )
        try:
            mend_records(record.folder)
            for past in read_history(record.folder):
                record._remember(past.seq, past.time, past.event)
        except OSError as error:
            record._lose_the_disk(error)
        if record._progress.state != job.state or not record._events:
            if job.state == "failed":
                record._take(Failed(job.error or message("jobs.closed")))
            record._take(StateChanged(job.state))
        return record

    @property
    def id(self) -> str:
        return self._status.id

    @property
    def ended(self) -> bool:
        return self._progress.final

    @property
    def progress(self) -> JobProgress:
        """What the events so far add up to."""
        return self._progress

    @property
    def worker_pid(self) -> int | None:
        """The process that runs or ran the job."""
        return self._status.worker_pid

    def status(self, **row: Any) -> JobStatus:
        """A snapshot, without the place in the queue; `row`: what the list adds to it."""
        told, now = self._status, self._progress
        step, steps = now.step, now.steps or told.steps
        if now.phase == "decode":
            step, steps = now.frame, now.frames or told.request.video_frames
        return replace(
            told, state=now.state, phase=now.phase, step=step, steps=steps, seconds_left=now.seconds_left,
            error=now.error, plan=now.plan or told.plan, resumed_from_step=now.resumed_from_step, healed=now.healed,
            waits_for=now.note if now.state == "paused" else None,
            **row,
        )  # fmt: skip

    def runs_in(self, pid: int) -> None:
        """Process `pid` runs this job."""
        with self._changed:
            self._status = replace(self._status, worker_pid=pid)

    def runs_under(self, plan: Plan) -> None:
        """This is the plan it is run under."""
        with self._changed:
            self._status = replace(self._status, plan=plan)

    def append(self, event: Event) -> None:
        """Take the next event. Done, Failed and Cancelled bring their final state with them, as the last event."""
        with self._changed:
            # A final state is said once, here, after its reason: whoever waits for it finds everything in place.
            if self.ended or (isinstance(event, StateChanged) and event.state in FINAL_STATES):
                return
            self._take(event)
            if ending := _ENDINGS.get(type(event)):
                self._take(StateChanged(ending))
            self._changed.notify_all()

    def close(self) -> None:
        """Nothing more will come; who follows has seen all there is."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def events(self, after: int = -1) -> list[tuple[int, Event]]:
        """The events so far with a number above `after`."""
        with self._changed:
            return self._events[bisect_right(self._events, after, key=itemgetter(0)) :]

    def follow(self, after: int = -1) -> Iterator[tuple[int, Event]]:
        """The events with a number above `after`, then each as it comes; ends after the final state, or when the app
        is closed."""
        ended = False
        while not ended:
            with self._changed:
                while self._last <= after and not self.ended and not self._closed:
                    self._changed.wait()
                batch, ended = self.events(after), self.ended or self._closed
            yield from batch
            after = batch[-1][0] if batch else after

    @property
    def _last(self) -> int:
        """The number of the last event, -1 before the first."""
        return self._events[-1][0] if self._events else -1

    def _remember(self, number: int, now: float, event: Event) -> None:
        self._events.append((number, event))
        self._progress = self._progress.after(event, now)

    def _note_down(self, event: Event) -> None:
        number, now = self._last + 1, round(time.time(), 3)
        self._remember(number, now, event)
        self._unwritten.append((number, now, event))

    def _take(self, event: Event) -> None:
        self._note_down(event)
        self._write()

    def _write(self) -> None:
        """All that is not on the disk yet; where it takes nothing now, the next event tries again."""
        try:
            if not self._on_disk:
                mend_records(self.folder)  # a line may have been cut off; one written twice is read once
            with (self.folder / EVENTS).open("a", encoding="utf-8") as file:
                file.write("".join(_line(*one) for one in self._unwritten))
            written, self._unwritten, self._on_disk = self._unwritten, [], True
            for _, now, event in written:
                if isinstance(event, MemorySampled):
                    with (self.folder / MEMORY).open("a", encoding="utf-8", newline="") as file:
                        file.write(_memory_rows(now, event, header=file.tell() == 0))
        except OSError as error:
            # The video may still come out; the run itself says so if the disk will not take that either.
            self._lose_the_disk(error)

    def _lose_the_disk(self, error: OSError) -> None:
        self._on_disk = False
        if self._told_of_disk:
            return
        self._told_of_disk = True
        log.warning("%s: its events cannot be written: %s", self.id, error)
        reason = message("jobs.record_incomplete", folder=str(self.folder), reason=error.strerror)
        self._note_down(Noted("warning", reason))


def _line(number: int, now: float, event: Event) -> str:
    line = {"seq": number, "time": now, **events.to_json(event)}
    return json.dumps(line, ensure_ascii=True, allow_nan=False) + "\n"


def _memory_rows(now: float, event: MemorySampled, *, header: bool) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, MEMORY_COLUMNS, lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerow({"time": now, **asdict(event)})
    return text.getvalue()
