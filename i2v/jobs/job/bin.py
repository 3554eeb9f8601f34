"""Deleted jobs: their folders lie in `outputs/.i2v/bin/<id>` until they are restored or the bin is emptied.

Moving there and back is a rename on one disk: whole or not at all, and at no cost in space.
"""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from i2v.jobs.job.folder import outputs_errors
from i2v.jobs.job.stored import hidden_folder
from i2v.messages import UserError
from i2v.whole_file import unfinished_path


@dataclass(frozen=True)
class Binned:
    """One deleted job. `deleted`: unix seconds."""

    id: str
    folder: Path
    deleted: float
    size_bytes: int


class Bin:
    """The bin of one outputs folder. The list of jobs is told by whoever calls: `delete` before `put`, `restore` after
    `restore`; where the power goes in between, the list follows the folders when it is opened again."""

    def __init__(self, outputs_dir: Path) -> None:
        self._outputs_dir = outputs_dir
        self._folder = hidden_folder(outputs_dir) / "bin"

    def put(self, folder: Path) -> Path:
        """Move the job folder in and return where it is now. Raises UserError, `jobs.unknown` where it is not there."""
        place = self.place(folder.name)
        with outputs_errors(self._outputs_dir):
            self._folder.mkdir(parents=True, exist_ok=True)
            if not folder.is_dir():
                raise UserError("jobs.unknown", id=folder.name)
            # Before the move: stamped after it, a job binned at a power cut would count as long deleted.
            os.utime(folder)
            return folder.rename(place)

    def restore(self, job_id: str, folder: Path) -> None:
        """Move the job back to `folder`. Raises UserError: `jobs.unknown` where it is not in the bin,
        `jobs.place_taken` where something else is at its place by now."""
        place = self.place(job_id)
        with outputs_errors(self._outputs_dir):
            if not place.is_dir():
                raise UserError("jobs.unknown", id=job_id)
            if os.path.lexists(folder):
                raise UserError("jobs.place_taken", id=job_id, folder=str(folder))
            folder.parent.mkdir(parents=True, exist_ok=True)
            place.rename(folder)

    def place(self, job_id: str) -> Path:
        """Where a deleted job lies. Raises UserError for an id that is no name of a folder."""
        if job_id in ("", ".", "..") or job_id.startswith(".") or Path(job_id).name != job_id or "\0" in job_id:
            raise UserError("jobs.unknown", id=job_id)
        return self._folder / job_id

    def entries(self) -> list[Binned]:
        """What is in the bin, the oldest first. What cannot be looked at counts nothing."""
        found = []
        with suppress(OSError):
            for folder in self._folder.iterdir():
                if not folder.name.startswith(".") and folder.is_dir():
                    found.append(Binned(folder.name, folder, folder.stat().st_mtime, size_of(folder)))
        return sorted(found, key=lambda entry: (entry.deleted, entry.id))

    def remove(self, job_id: str) -> None:
        """Remove a job for good. Raises UserError where the file system refuses."""
        place = self.place(job_id)
        going = unfinished_path(place)  # half a job is none
        with outputs_errors(self._outputs_dir):
            with suppress(FileNotFoundError):
                place.rename(going)
            if going.exists():
                shutil.rmtree(going)

    def empty(self, *, days: float = 0, within_bytes: float = math.inf) -> tuple[Binned, ...]:
        """Remove what has lain there for `days`, and the oldest until the rest is within `within_bytes`; everything
        where neither is given. Returns what went. Raises UserError where the file system refuses."""
        going = beyond(self.entries(), time.time(), days, within_bytes)
        for entry in going:
            self.remove(entry.id)
        return going


def beyond(entries: Iterable[Binned], now: float, days: float, within_bytes: float) -> tuple[Binned, ...]:
    """Those that have lain there for `days`, and of the rest the oldest that are too much for `within_bytes`."""
    newest_first = sorted(entries, key=lambda entry: (entry.deleted, entry.id), reverse=True)
    going, held, over = [], 0, False
    for entry in newest_first:
        held += entry.size_bytes
        over = over or held > within_bytes
        if over or now - entry.deleted >= days * 86400:
            going.append(entry)
    return tuple(reversed(going))


def size_of(path: Path) -> int:
    """The bytes of a file, or of all files below a folder; links count as themselves."""
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with suppress(OSError):  # it went meanwhile
                total += os.lstat(os.path.join(folder, name)).st_size
    return total
