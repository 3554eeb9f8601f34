"""A job's events as its folder has them. A line that was being written when the power went is no line."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from i2v import events
from i2v.events import Event

EVENTS = "events.jsonl"
MEMORY = "memory.csv"
_TAIL_BYTES = 1 << 16


@dataclass(frozen=True)
class Recorded:
    """Event number `seq` of a job, at `time` in unix seconds."""

    seq: int
    time: float
    event: Event


def read_history(folder: Path, after: int = -1, only: Collection[str] = ()) -> Iterator[Recorded]:
    """The events in `folder` with a number above `after`, in order; of the types `only`, where that is given. Lines
    that cannot be read, and a last one that was not finished, are left out. Raises OSError, not for a missing file."""
    marks = [f'"type": "{name}"'.encode() for name in only]
    try:
        file = (folder / EVENTS).open("rb")
    except FileNotFoundError:
        return
    with file:
        for line in file:
            if not line.endswith(b"\n") or (marks and not any(mark in line for mark in marks)):
                continue
            try:
                values = json.loads(line)
                recorded = Recorded(int(values.pop("seq")), float(values.pop("time")), events.from_json(values))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                continue
            if recorded.seq > after and (not only or recorded.event.type in only):
                after = recorded.seq
                yield recorded


def mend_records(folder: Path) -> None:
    """Cut the unfinished last line off the files that a job goes on writing. Raises OSError."""
    for name in (EVENTS, MEMORY):
        try:
            file = (folder / name).open("r+b")
        except FileNotFoundError:
            continue
        with file:
            _cut_unfinished_line(file.fileno())


def _cut_unfinished_line(descriptor: int) -> None:
    size = end = os.lseek(descriptor, 0, os.SEEK_END)
    while end > 0:
        start = max(0, end - _TAIL_BYTES)
        newline = os.pread(descriptor, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        os.ftruncate(descriptor, end)
