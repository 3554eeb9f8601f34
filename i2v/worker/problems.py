"""What went wrong in a job, in words for the person whose job it was."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from i2v.job_progress import JobProgress
from i2v.memory.errors import first_line, is_out_of_memory, is_out_of_ram, named_line
from i2v.messages import Message, UserError, message
from i2v.models.entry import ASSETS
from i2v.units import GIB
from i2v.wire.worker import Run

_FULL = (errno.ENOSPC, errno.EDQUOT)
_DISK_FULL_IDS = ("worker.disk_full", "video.disk_full")


def explain(error: Exception, run: Run, progress: JobProgress) -> Message:
    """The message for `error`, which ended `run`."""
    if isinstance(error, UserError):
        return error.message
    if is_out_of_memory(error, free_share(progress)):
        return _out_of_memory(error, run, progress)
    if _is_disk_full(error):
        folder = Path(run.folder)
        return message("worker.disk_full", folder=run.folder, free_mib=shutil.disk_usage(folder).free // 2**20)
    if isinstance(error, OSError):
        return message("worker.file", path=str(error.filename or run.folder), reason=error.strerror or str(error))
    known = {"phase": progress.phase, "error": named_line(error), "log": run.log}
    folder = run.entry.get("folder")
    ours = folder is None or Path(folder).is_relative_to(ASSETS)
    if not ours:
        return message("worker.unexpected_model", folder=folder, **known)
    return message("worker.unexpected", **known)


def free_share(progress: JobProgress) -> float:
    """How much of the card's memory was free at the last sample of this phase, 0 to 1; 1 without one."""
    sample = progress.memory
    return 1.0 if sample is None else 1 - sample.device_used_bytes / sample.device_total_bytes


def wants_room(error: Exception, reason: Message) -> bool:
    """Whether the run stopped only because the disk is full, and can go on once there is room. `reason` is what the
    person is told of `error`."""
    cause = error.__cause__
    return reason.id in _DISK_FULL_IDS or (isinstance(cause, Exception) and _is_disk_full(cause))


def _out_of_memory(error: Exception, run: Run, progress: JobProgress) -> Message:
    size = {key: run.request[key] for key in ("width", "height", "num_frames")}
    known = {"phase": progress.phase, "reason": first_line(error), **size}
    if is_out_of_ram(error):
        return message("worker.out_of_ram", **known)
    if progress.memory is None:
        return message("worker.out_of_memory", **known)
    used, total = progress.memory.device_used_bytes / GIB, progress.memory.device_total_bytes / GIB
    return message("worker.out_of_memory_at", used_gib=round(used, 2), total_gib=round(total, 2), **known)


def _is_disk_full(error: Exception) -> bool:
    # safetensors wraps what the system says in an error type of its own.
    return (isinstance(error, OSError) and error.errno in _FULL) or "No space left on device" in str(error)
