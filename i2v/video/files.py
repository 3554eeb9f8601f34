"""What to say when a video, or a picture of one, could not be written."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from pathlib import Path

from i2v.messages import UserError

_MIB = 2**20
_DISK_FULL_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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
