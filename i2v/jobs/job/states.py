"""The states of a job, and which may follow which."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

State = Literal["queued", "running", "decoding", "paused", "done", "failed", "cancelled"]
STATES: tuple[State, ...] = get_args(State)

AT_WORK: tuple[State, ...] = ("running", "decoding")
"""A process is at it; when that process is gone, the job waits again."""

LIVE: tuple[State, ...] = ("queued", *AT_WORK, "paused")
"""Not ended: something may still come of what lies in the folder."""

ALLOWED: Mapping[State, frozenset[State]] = {
    "queued": frozenset({"running", "paused", "failed", "cancelled"}),
    "running": frozenset({"decoding", "queued", "paused", "failed", "cancelled"}),
    "decoding": frozenset({"done", "queued", "paused", "failed", "cancelled"}),
    "paused": frozenset({"queued", "failed", "cancelled"}),
    # What has ended stays as it ended: trying again is a new job, whose `parent` is this one.
    "done": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
}


class NotAllowed(Exception):
    """A job was asked to change to a state that does not follow from the one it is in; nothing has changed. Where two
    threads decide about one job, the later one gets this."""

    def __init__(self, job_id: str, state: State, to: State) -> None:
        super().__init__(f"{job_id} is {state} and can not become {to}")
        self.job_id, self.state, self.to = job_id, state, to
