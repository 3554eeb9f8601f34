"""How a command can end. Told in `--help` and in the README."""

from __future__ import annotations

from enum import IntEnum

from i2v.messages import Message


class Exit(IntEnum):
    """The process's exit code."""

    DONE = 0
    FAILED = 1  # the job or the command failed
    BAD_INPUT = 2  # a flag, setting, picture or model that cannot be used
    NO_ROOM = 3  # not enough memory or disk space
    CANCELLED = 130  # by Ctrl-C, as shells have it


NO_ROOM_IDS = frozenset(
    {
        "cli.app_refused",
        "jobs.outputs_full",
        "jobs.worker_out_of_ram",
        "models.disk_too_small",
        "planning.refused_card",
        "planning.refused_disk",
        "planning.refused_nearest_card",
        "planning.refused_nearest_disk",
        "planning.refused_nearest_ram",
        "planning.refused_ram",
        "training.out_of_memory",
        "video.disk_full",
        "worker.disk_full",
        "worker.out_of_memory",
        "worker.out_of_memory_at",
        "worker.out_of_ram",
    }
)


def exit_for(reason: Message, otherwise: Exit) -> Exit:
    """The exit code for an error: NO_ROOM where memory or disk ran out, else `otherwise`."""
    return Exit.NO_ROOM if reason.id in NO_ROOM_IDS else otherwise
