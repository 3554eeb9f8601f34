"""When waiting jobs will have their turn, as far as the predictions go."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from i2v.jobs.job.record import JobStatus
from i2v.jobs.job.stored import StoredJob


@dataclass(frozen=True)
class Turn:
    """A waiting job's place in the line, 1 for next, and the seconds until it begins, None where that is unknown."""

    position: int
    starts_in: float | None


def turns(waiting: Iterable[StoredJob], running_left: float | None) -> dict[str, Turn]:
    """The turn of each of `waiting`, which are in the order in which they will run, by its id. `running_left`: the
    seconds that the running job still takes, 0 for none, None where that is unknown. One job whose seconds nobody has
    predicted leaves the beginning of all behind it unknown."""
    found: dict[str, Turn] = {}
    starts_in = running_left
    for position, job in enumerate(waiting, start=1):
        found[job.id] = Turn(position, starts_in)
        known = starts_in is not None and job.seconds_predicted is not None
        starts_in = starts_in + job.seconds_predicted if known else None
    return found


def at_its_turn(status: JobStatus, line: Mapping[str, Turn]) -> JobStatus:
    """A waiting job with its place in the line; another as it is."""
    turn = line.get(status.id) if status.state == "queued" else None
    return status if turn is None else replace(status, position=turn.position, starts_in=turn.starts_in)


def left(status: JobStatus, now: float) -> float | None:
    """Seconds that a job at work still takes, None where that is unknown. `now`: unix seconds."""
    if status.seconds_predicted is None or status.started is None:
        return status.seconds_left
    return max(0.0, status.seconds_predicted - (now - status.started), status.seconds_left or 0.0)
