"""The list of downloads on the disk: `.downloads.json` in the models folder. One program at a time keeps it."""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from i2v.downloads.state import Download
from i2v.whole_file import write_whole

log = logging.getLogger(__name__)

LIST = ".downloads.json"
LOCK = ".downloads.lock"


def read_list(models_dir: Path) -> list[Download]:
    """As `read_rows`; what was coming then waits."""
    found = read_rows(models_dir)
    return [replace(one, state="waiting" if one.state == "coming" else one.state) for one in found]


def read_rows(models_dir: Path) -> list[Download]:
    """The downloads as they were written last, in their order. None of them where there is no list, or it cannot be
    read."""
    try:
        rows = json.loads((models_dir / LIST).read_text(encoding="utf-8"))
        return [Download.from_json(row) for row in rows]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        log.warning("The list of downloads in %s cannot be read: %s", models_dir, error)
        return []


class KeptList:
    """The list, as whoever holds its lock keeps it. Another program of the same models folder has a list of its own in
    memory: two that write one list would lose each other's rows."""

    def __init__(self, models_dir: Path) -> None:
        self._models_dir = models_dir
        self._descriptor: int | None = None

    @property
    def owned(self) -> bool:
        return self._descriptor is not None

    def take(self, *, make: bool = False) -> bool:
        """Whether the list is ours to write from now on. Only with `make` is a models folder made for it."""
        if self._descriptor is not None:
            return True
        if not make and not (self._models_dir / LIST).exists():
            return False
        descriptor = None
        try:
            self._models_dir.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._models_dir / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # another program's, or a folder that takes nothing
            if descriptor is not None:
                os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def read(self) -> list[Download]:
        return read_list(self._models_dir)

    def write(self, downloads: Iterable[Download]) -> None:
        """Put the rows on the disk, whole or not at all. Where that is not possible they are in memory alone."""
        if self._descriptor is None:
            return
        text = json.dumps([one.to_json() for one in downloads], indent=1, ensure_ascii=False)
        try:
            write_whole(self._models_dir / LIST, text)
        except OSError as error:
            log.warning("The list of downloads cannot be written: %s", error)

    def release(self) -> None:
        """Let another program keep the list."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with suppress(OSError):
                os.close(descriptor)
