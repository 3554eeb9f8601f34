"""What may go from an outputs folder so that it keeps within its budgets. Never a video that is not in the bin.

`survey` looks, `surplus` decides and touches nothing, `tidy` removes what it decided.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from i2v.jobs.job.again import CHECKPOINT, LATENTS
from i2v.jobs.job.bin import Bin, size_of
from i2v.jobs.job.folder import VIDEO
from i2v.jobs.job.states import LIVE
from i2v.jobs.job.stored import StoredJob, hidden_folder
from i2v.jobs.list.rebuild import job_folders
from i2v.messages import UserError
from i2v.settings.settings import Settings
from i2v.units import GIB

log = logging.getLogger(__name__)

Kind = Literal["temporary", "latents", "cache", "bin"]

SAVED = (LATENTS, CHECKPOINT)
STALE_SECONDS = 3600.0
DAY_SECONDS = 86400.0
_HALF_MADE = (".*.part*", ".*.unfinished")


@dataclass(frozen=True)
class Budgets:
    """How much may stay."""

    bin_days: float
    bin_bytes: int
    latents_bytes: int
    cache_bytes: int

    @classmethod
    def of(cls, settings: Settings) -> Budgets:
        return cls(
            bin_days=settings.bin_days,
            bin_bytes=int(settings.bin_gib * GIB),
            latents_bytes=int(settings.latents_gib * GIB),
            cache_bytes=int(settings.cache_gib * GIB),
        )


@dataclass(frozen=True)
class Leftover:
    """Something that could go. `used`: unix seconds of its last use; for the bin, of when it got there. `needed`: a job
    that has not ended may still want it, or it is all that is left of its job."""

    kind: Kind
    path: Path
    size_bytes: int
    used: float
    needed: bool = False


@dataclass(frozen=True)
class Freed:
    """What a tidying removed. `forgotten`: the jobs that left the bin, whose rows may go (`JobStore.forget`)."""

    removed: tuple[Leftover, ...]
    forgotten: tuple[str, ...]

    @property
    def size_bytes(self) -> int:
        return sum(found.size_bytes for found in self.removed)


def surplus(found: Iterable[Leftover], budgets: Budgets, now: float) -> tuple[Leftover, ...]:
    """Of all that was found, what goes at `now`: temporary files left for an hour, what has lain in the bin for its
    days, and in each other kind the least recently used that is too much. What is needed stays, and counts."""
    by_kind: dict[Kind, list[Leftover]] = {"temporary": [], "latents": [], "cache": [], "bin": []}
    for item in found:
        by_kind[item.kind].append(item)
    too_old = [item for item in by_kind["bin"] if now - item.used >= budgets.bin_days * DAY_SECONDS]
    young = [item for item in by_kind["bin"] if now - item.used < budgets.bin_days * DAY_SECONDS]
    return (
        *(item for item in by_kind["temporary"] if not item.needed and now - item.used >= STALE_SECONDS),
        *_over(by_kind["latents"], budgets.latents_bytes),
        *_over(by_kind["cache"], budgets.cache_bytes),
        *too_old,
        *_over(young, budgets.bin_bytes),
    )


def _over(items: Collection[Leftover], budget_bytes: int) -> Iterator[Leftover]:
    """The least recently used, until the rest is within the budget."""
    held = sum(item.size_bytes for item in items)
    for item in sorted(items, key=lambda item: (item.used, str(item.path))):
        if held <= budget_bytes:
            return
        if not item.needed:
            held -= item.size_bytes
            yield item


def survey(outputs_dir: Path, jobs: Iterable[StoredJob]) -> Iterator[Leftover]:
    """All that could go. `jobs` is the list as it is; a job that is not in it loses nothing but stale temporary files.
    Raises OSError."""
    jobs = tuple(jobs)
    hidden, by_id = hidden_folder(outputs_dir), {job.id: job for job in jobs}
    live = {job.id for job in jobs if job.state in LIVE}
    parents = {job.parent for job in jobs if job.id in live}
    folders = tuple(job_folders(outputs_dir))
    cache = hidden / "cache"
    for folder in (*outputs_dir.absolute().glob("????-??-??"), hidden / "bin", cache):
        yield from _half_made(folder)
    for folder in folders:
        yield from _half_made(folder, needed=folder.name in live)
        yield from _saved(folder, by_id, parents)
    for entry in cache.glob("[!.]*"):
        with suppress(FileNotFoundError):
            yield Leftover("cache", entry, size_of(entry), _last_use(entry))
    yield from (Leftover("bin", entry.folder, entry.size_bytes, entry.deleted) for entry in Bin(outputs_dir).entries())


def held(outputs_dir: Path, jobs: Iterable[StoredJob]) -> dict[Kind, int]:
    """The bytes of each kind that there are. Raises OSError."""
    sizes: dict[Kind, int] = {"temporary": 0, "latents": 0, "cache": 0, "bin": 0}
    for found in survey(outputs_dir, jobs):
        sizes[found.kind] += found.size_bytes
    return sizes


def _half_made(folder: Path, *, needed: bool = False) -> Iterator[Leftover]:
    for pattern in _HALF_MADE:
        for path in folder.glob(pattern):
            with suppress(FileNotFoundError):  # it was finished meanwhile
                yield _found("temporary", path, needed=needed)


def _saved(folder: Path, jobs: Mapping[str, StoredJob], parents: Collection[str | None]) -> Iterator[Leftover]:
    """Latents of a finished job: they only save time, as long as its video is there."""
    job = jobs.get(folder.name)
    spare = job is not None and job.state == "done" and job.id not in parents and (folder / VIDEO).is_file()
    for name in SAVED:
        with suppress(FileNotFoundError):
            yield _found("latents", folder / name, needed=not spare)


def _found(kind: Kind, path: Path, *, needed: bool = False) -> Leftover:
    return Leftover(kind, path, size_of(path), path.lstat().st_mtime, needed)


def _last_use(path: Path) -> float:
    """When a file, or any below a folder, was last written, or read where the file system keeps track of that."""
    files = [path] if not path.is_dir() else [file for file in path.rglob("*") if not file.is_dir()]
    times = [status for file in files for status in (file.lstat().st_atime, file.lstat().st_mtime)]
    return max(times, default=path.lstat().st_mtime)


def tidy(outputs_dir: Path, jobs: Iterable[StoredJob], budgets: Budgets) -> Freed:
    """Remove what is too much and say what went; what the file system would not let go is logged and stays. Raises
    OSError where the folder cannot be looked at."""
    removed = [item for item in surplus(survey(outputs_dir, jobs), budgets, time.time()) if _remove(outputs_dir, item)]
    return Freed(tuple(removed), tuple(item.path.name for item in removed if item.kind == "bin"))


def _remove(outputs_dir: Path, item: Leftover) -> bool:
    try:
        if item.kind == "bin":
            Bin(outputs_dir).remove(item.path.name)
        elif item.path.is_dir() and not item.path.is_symlink():
            shutil.rmtree(item.path)
        else:
            item.path.unlink()
    except FileNotFoundError:
        return False
    except (OSError, UserError) as error:
        log.warning("%s stays: %s", item.path, error)
        return False
    return True
