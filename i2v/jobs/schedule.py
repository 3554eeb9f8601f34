"""When waiting jobs will have their turn, as far as the predictions go."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from i2v.jobs.stored import StoredJob


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
