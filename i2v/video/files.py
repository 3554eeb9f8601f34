"""Files that appear whole or not at all, and what to say when the disk does not take them."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from i2v.messages import UserError

_MIB = 2**20
_DISK_FULL_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def part_path(path: Path) -> Path:
    """The hidden name beside `path` of what is no video before it is whole; whoever tidies up may remove it."""
    return path.with_name(f".{path.name}.part")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """The file to write into, which becomes `path` at the end of the block; where that fails it is gone. Raises OSError
    and what the block raises."""
    part = part_path(path)
    try:
        yield part
        put_in_place(part, path)
    finally:
        with suppress(OSError):  # the folder itself may be gone or closed to us
            part.unlink(missing_ok=True)


def put_in_place(part: Path, path: Path) -> None:
    """Give the whole file `part` the name `path`, both on the disk afterwards. Raises OSError."""
    sync(part)
    os.replace(part, path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def encoder_failed(code: int, words: str, file: Path) -> UserError:
    """What to say of ffmpeg's exit `code` and log, `file` being what it wrote."""
    words = words.strip()
    if code == -signal.SIGXFSZ or any(os.strerror(number) in words for number in _DISK_FULL_ERRORS):
        return disk_full(file)
    return UserError("video.encoder_failed", code=code, reason=words.splitlines()[-1] if words else "")


def not_written(error: OSError, file: Path) -> UserError:
    """What to say when the system refused to write `file`."""
    if error.errno in _DISK_FULL_ERRORS:
        return disk_full(file)
    return UserError("video.not_writable", folder=str(file.parent), reason=error.strerror or str(error))


def disk_full(file: Path) -> UserError:
    """What to say when the disk had no room for the rest of `file`."""
    written = file.stat().st_size if file.exists() else 0
    return UserError(
        "video.disk_full",
        folder=str(file.parent),
        written_mib=round(written / _MIB, 1),
        free_mib=round(shutil.disk_usage(file.parent).free / _MIB, 1),
        # What the frames so far took, twice over, and never less than a short clip needs.
        needed_mib=max(16, round(2 * written / _MIB)),
    )
