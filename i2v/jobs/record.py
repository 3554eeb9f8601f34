"""One job as the service knows it: its events in order, what they add up to, and the same on disk.

Followers read the list under a condition, each at its own pace; nothing is queued for anybody, so a follower that
stops reading costs nothing. `events.jsonl` and `memory.csv` in the job folder grow with the list.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from i2v import events
from i2v.events import (
    FINAL_STATES,
    Cancelled,
    Done,
    Event,
    Failed,
    MemorySampled,
    Noted,
    PhaseStarted,
    StateChanged,
    StepFinished,
)
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
    0 for a job that does not wait. `worker_pid` is the process that runs or ran it."""

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
            "worker_pid": self.worker_pid,
            "position": self.position,
        }


class JobRecord:
    """The events of one job. Any thread may append or follow; after the final state nothing is appended."""

    def __init__(
        self,
        job_id: str,
        folder: Path,
        request: GenerationRequest,
        plan: Plan,
        entry: ModelEntry,
        owner: str,
        card: str = "",
    ) -> None:
        """`card` is the UUID of the card the job runs on, empty for none."""
        self.entry = entry
        self.card = card
        self.folder = folder
        self._events: list[Event] = []
        self._changed = threading.Condition()
        self._on_disk = True
        self._status = JobStatus(
            id=job_id,
            state="queued",
            phase="",
            step=0,
            steps=request.num_inference_steps,
            seconds_left=None,
            error=None,
            worker_pid=None,
            position=0,
            folder=folder,
            request=request,
            plan=plan,
            owner=owner,
        )

    @property
    def id(self) -> str:
        return self._status.id

    @property
    def ended(self) -> bool:
        return self._status.state in FINAL_STATES

    def status(self, position: int = 0) -> JobStatus:
        """A snapshot; `position` is known to the queue only."""
        return replace(self._status, position=position)

    def runs_in(self, pid: int) -> None:
        """Process `pid` runs this job."""
        with self._changed:
            self._status = replace(self._status, worker_pid=pid)

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

    def follow(self, after: int = -1) -> Iterator[tuple[int, Event]]:
        """The events with a number above `after`, then each as it comes; ends after the final state."""
        position = max(after + 1, 0)
        ended = False
        while not ended:
            with self._changed:
                while len(self._events) <= position and not self.ended:
                    self._changed.wait()
                batch, ended = self._events[position:], self.ended
            yield from enumerate(batch, start=position)
            position += len(batch)

    def _take(self, event: Event) -> None:
        self._events.append(event)
        self._status = _after(self._status, event)
        if self._on_disk:
            self._write(len(self._events) - 1, event)

    def _write(self, number: int, event: Event) -> None:
        now = round(time.time(), 3)
        try:
            with (self.folder / "events.jsonl").open("a", encoding="utf-8") as file:
                line = {"seq": number, "time": now, **events.to_json(event)}
                file.write(json.dumps(line, ensure_ascii=True, allow_nan=False) + "\n")
            if isinstance(event, MemorySampled):
                with (self.folder / "memory.csv").open("a", encoding="utf-8", newline="") as file:
                    file.write(_memory_rows(now, event, header=file.tell() == 0))
        except OSError as error:
            # The video may still come out; the run itself says so if the disk will not take that either.
            log.warning("%s: its events are no longer written: %s", self.id, error)
            self._on_disk = False
            self._events.append(
                Noted("warning", message("jobs.record_incomplete", folder=str(self.folder), reason=error.strerror))
            )


def _after(status: JobStatus, event: Event) -> JobStatus:
    """The status once `event` has happened."""
    if isinstance(event, StateChanged):
        return replace(status, state=event.state)
    if isinstance(event, PhaseStarted):
        return replace(status, phase=event.phase, seconds_left=None)
    if isinstance(event, StepFinished):
        return replace(status, phase=event.phase, step=event.index, steps=event.total, seconds_left=event.seconds_left)
    if isinstance(event, Failed):
        return replace(status, error=event.message, seconds_left=None)
    if isinstance(event, Done):
        return replace(status, seconds_left=0.0)
    if isinstance(event, Cancelled):
        return replace(status, seconds_left=None)
    return status


def _memory_rows(now: float, event: MemorySampled, *, header: bool) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, MEMORY_COLUMNS, lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerow({"time": now, **asdict(event)})
    return text.getvalue()
