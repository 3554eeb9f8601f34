"""Taking away what a download has brought so far, and nothing that was there before it."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from i2v.families import SPECS
from i2v.models.choose_files import choose_files
from i2v.models.fetch.parts import PARTS
from i2v.models.fetch.record import RECORD, read_record


def discard(folder: Path, family: str, since: float) -> None:
    """Remove from `folder` the beginnings of files, and of the files that a model of the family has those that came
    after `since`, in unix seconds; then what is empty. What cannot be removed stays.

    The record of what was fetched does not say it: a file has its name a moment before it stands there."""
    shutil.rmtree(folder / PARTS, ignore_errors=True)
    inside = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    for name in choose_files(inside, SPECS[family]) if family in SPECS else ():
        with suppress(OSError):
            if inside[name].lstat().st_mtime_ns >= since * 1e9:  # of a link to the hub's cache its own
                inside[name].unlink()
    record = read_record(folder)
    if record is None or not any((folder / file.name).exists() for file in record.files):
        with suppress(OSError):
            (folder / RECORD).unlink(missing_ok=True)
    inner = sorted((path for path in inside.values() if path.is_dir() and not path.is_symlink()), reverse=True)
    for place in (*inner, folder):
        with suppress(OSError):  # not empty
            place.rmdir()
