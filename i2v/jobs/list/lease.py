"""One service per outputs folder: who holds `outputs/.i2v/lease` runs its jobs.

The lock belongs to the open file, so the kernel gives it back however the process ends; the file stays, and what
stands in it means something only while somebody holds it. Lock first, store second.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

from i2v.jobs.job.folder import outputs_errors
from i2v.jobs.job.stored import hidden_folder
from i2v.messages import UserError

log = logging.getLogger(__name__)

_FAR_BYTE = 1 << 30  # Windows keeps others from reading what is locked: lock a byte that nobody reads
_TAKEN = (errno.EWOULDBLOCK, errno.EACCES, errno.EAGAIN, errno.EDEADLK)
_PATIENCE_SECONDS = 0.5


class Lease:
    """Held from its making until `release`; as a context manager it releases itself."""

    def __init__(self, outputs_dir: Path, address: str = "") -> None:
        """Take the lease; `address` is the page's, empty while there is none. Raises UserError: `jobs.outputs_taken`,
        or `jobs.outputs_taken_at` where the holder has a page, and where the folder cannot be written."""
        path = hidden_folder(outputs_dir) / "lease"
        with outputs_errors(outputs_dir):
            path.parent.mkdir(parents=True, exist_ok=True)
            # Not inherited: a child that outlives this process does not hold the lease for it.
            self._descriptor: int | None = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if not _lock(self._descriptor):
                raise _taken(path, outputs_dir)
            with outputs_errors(outputs_dir):
                self.tell(address)
        except BaseException:
            self.release()
            raise

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def tell(self, address: str) -> None:
        """Say in the file who holds it and where the page is. Raises OSError."""
        if self._descriptor is None:
            return
        words = json.dumps({"pid": os.getpid(), "address": address}).encode("ascii")
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        os.write(self._descriptor, words)
        os.ftruncate(self._descriptor, len(words))

    def release(self) -> None:
        """Give it back; a second time does nothing."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def holder(outputs_dir: Path) -> dict[str, Any] | None:
    """What the lease says: `pid` and `address`. None where nothing readable stands in it; it may be out of date."""
    try:
        said = json.loads((hidden_folder(outputs_dir) / "lease").read_bytes())
        return {"pid": int(said["pid"]), "address": str(said["address"])}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _taken(path: Path, outputs_dir: Path) -> UserError:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while (said := holder(outputs_dir)) is None and time.monotonic() < deadline:
        time.sleep(0.02)  # it has only just been taken
    folder, pid = str(path.parents[1]), said["pid"] if said else "?"
    if said and said["address"]:
        return UserError("jobs.outputs_taken_at", folder=folder, pid=pid, address=said["address"])
    return UserError("jobs.outputs_taken", folder=folder, pid=pid)


def _lock(descriptor: int) -> bool:
    """Whether the lock is ours now. On a file system that knows no locks it is anybody's."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, _FAR_BYTE, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        log.warning("The output folder's file system keeps no locks (%s): start the app there only once", error)
    return True
