"""The file behind the list of jobs: opened, brought up to date, set aside where it is of no use, and made anew."""

from __future__ import annotations

import errno
import logging
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from i2v.events import FINAL_STATES
from i2v.jobs.job.bin import Bin
from i2v.jobs.job.folder import free_mib, outputs_errors
from i2v.jobs.job.stored import StoredJob
from i2v.jobs.list.rebuild import job_folders, job_from_folder
from i2v.jobs.list.schema import APPLICATION_ID, COLUMNS, MIGRATIONS, job_of, migrate, row_of
from i2v.messages import Message, UserError, message

log = logging.getLogger(__name__)

_BESIDE = ("", "-wal", "-shm", "-journal")
_LOCKED_SECONDS = 2.0
_WAL_PAGES = 32  # the log beside the list is folded in this often: it stays small on a small disk
_BROKEN = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT)
_INSERT = f"INSERT INTO jobs ({', '.join(COLUMNS)}) VALUES ({', '.join(f':{name}' for name in COLUMNS)})"


class _Unusable(Exception):
    """The file is not a list that this version can use; `args[0]` is the id of the message that says so."""


def open_list(path: Path, outputs_dir: Path) -> tuple[sqlite3.Connection, Message | None]:
    """The list at `path`, up to date and agreeing with the job folders, and what there is to say about it. Raises
    UserError where the folder cannot be written."""
    with list_errors(path, outputs_dir):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            db, found = _open(path, outputs_dir)
        except _Unusable as why:
            kept = set_aside(path)
            db, found = _open(path, outputs_dir)
            return db, message(why.args[0], kept=str(kept), count=found)
        return db, message("jobs.list_found", folder=str(outputs_dir.absolute()), count=found) if found else None


def set_aside(path: Path) -> Path:
    """Rename the list and what belongs to it to `<name>.broken-<n>`, the first n that is free. Raises OSError."""
    number = 1
    while (kept := path.with_name(f"{path.name}.broken-{number}")).exists():
        number += 1
    for suffix in reversed(_BESIDE):  # the list last: with it still there, a power cut leaves it broken, not new
        beside = path.with_name(path.name + suffix)
        if beside.exists():
            beside.rename(kept.with_name(kept.name + suffix))
    return kept


@contextmanager
def list_errors(path: Path, outputs_dir: Path) -> Iterator[None]:
    """Turns what SQLite and the file system say into a UserError that says what to do."""
    with outputs_errors(outputs_dir):
        try:
            yield
        except sqlite3.Error as error:
            code = _code(error)
            if code in _BROKEN:
                raise UserError("jobs.list_broken", file=str(path)) from error
            if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and free_mib(outputs_dir) == 0):
                raise OSError(errno.ENOSPC, str(error)) from error
            if isinstance(error, sqlite3.OperationalError):
                raise OSError(errno.EIO, str(error)) from error
            raise


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All of what is done inside, flushed to disk at the end, or nothing of it."""
    try:
        # Within: Ctrl-C right after it would leave the transaction open, and every later one would fail.
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # a full disk may have ended it already
            db.execute("ROLLBACK")
        raise


def insert(db: sqlite3.Connection, job: StoredJob) -> StoredJob:
    """Put the job last in the list; returned with its place."""
    place = db.execute("SELECT COALESCE(MAX(place), 0) + 1 FROM jobs").fetchone()[0]
    job = replace(job, place=place)
    db.execute(_INSERT, row_of(job))
    return job


def set_columns(db: sqlite3.Connection, job_id: str, columns: Mapping[str, Any]) -> None:
    """Change some columns of a row."""
    assignments = ", ".join(f"{name} = :{name}" for name in columns)
    db.execute(f"UPDATE jobs SET {assignments} WHERE id = :id", {**columns, "id": job_id})


def _open(path: Path, outputs_dir: Path) -> tuple[sqlite3.Connection, int]:
    """The list, and how many jobs were found that it did not know. Raises _Unusable, with the file closed."""
    if path.exists() and not path.is_file():
        raise _Unusable("jobs.list_rebuilt")
    db = sqlite3.connect(path, timeout=_LOCKED_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA locking_mode = EXCLUSIVE")  # no shared memory beside it: any file system will do
        version = _version(db)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
        with transaction(db):  # a list that is made anew appears with all its jobs in it
            migrate(db, version)
            return db, _agree(db, _known(db), outputs_dir)
    except BaseException as error:
        with suppress(sqlite3.Error):
            db.close()
        if isinstance(error, sqlite3.Error) and _code(error) in (*_BROKEN, sqlite3.SQLITE_ERROR):
            log.warning("%s: %s", path, error)
            raise _Unusable("jobs.list_rebuilt") from error
        raise


def _version(db: sqlite3.Connection) -> int:
    """The version of the tables, 0 for an empty file. Raises _Unusable for what is not, or no longer, ours."""
    if db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
        raise _Unusable("jobs.list_rebuilt")
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version == 0 and db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0] == 0:
        return 0
    if version <= 0 or db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise _Unusable("jobs.list_rebuilt")
    if version > len(MIGRATIONS):
        raise _Unusable("jobs.list_newer")
    return version


def _known(db: sqlite3.Connection) -> list[StoredJob]:
    """Every job in the list. All is read once, so that nobody meets the unreadable later. Raises _Unusable."""
    db.execute("SELECT owner, turn FROM served").fetchall()
    db.execute("SELECT name, is_on FROM switches").fetchall()
    try:
        return [job_of(row) for row in db.execute("SELECT * FROM jobs")]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RecursionError) as error:
        log.warning("The list of jobs: %s: %s", type(error).__name__, error)
        raise _Unusable("jobs.list_rebuilt") from error


def _agree(db: sqlite3.Connection, known: list[StoredJob], outputs_dir: Path) -> int:
    """Make the list agree with what lies where: a crash may have come between a folder and its row. Returns how many
    jobs were found that it did not know."""
    in_bin = {entry.id: entry for entry in Bin(outputs_dir).entries()}
    in_place = {folder.name: folder for folder in job_folders(outputs_dir)}
    rows = {job.id for job in known}
    for job in known:
        if job.deleted is None and job.id in in_bin and job.id not in in_place and job.state in FINAL_STATES:
            set_columns(db, job.id, {"deleted": in_bin[job.id].deleted})
        elif job.deleted is not None and job.id in in_place:
            set_columns(db, job.id, {"deleted": None})
        elif job.deleted is not None and job.id not in in_bin:
            db.execute("DELETE FROM jobs WHERE id = ?", (job.id,))
    new = [job for name, folder in in_place.items() if name not in rows and (job := job_from_folder(folder))]
    for name, entry in in_bin.items():
        if name not in rows and name not in in_place and (job := job_from_folder(entry.folder)):
            new.append(replace(job, deleted=entry.deleted))
    return sum(_took_in(db, job) for job in sorted(new, key=lambda job: (job.submitted, job.id)))


def _took_in(db: sqlite3.Connection, job: StoredJob) -> bool:
    """Whether the list could take a job from a folder, whose files anybody may have written."""
    try:
        insert(db, job)
    except (
        sqlite3.IntegrityError,
        sqlite3.InterfaceError,
        sqlite3.ProgrammingError,
        ValueError,
        OverflowError,
    ) as error:
        log.warning("Job %s cannot be listed: %s", job.id, error)
        return False
    return True


def _code(error: sqlite3.Error) -> int:
    """SQLite's own code for an error, without its finer distinctions."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
