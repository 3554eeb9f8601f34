"""Binding the worker to the process that started it, so that no orphan keeps a card."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import BinaryIO

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int) -> None:
    """Ask Linux to kill this process when its parent ends; elsewhere the end of stdin must do.

    The signal also reaches a process that hangs in native code with the interpreter's lock held, where no thread of
    ours could act.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before we asked
        os._exit(0)


def take_stdin() -> BinaryIO:
    """The command pipe, moved away from descriptor 0, which becomes empty: a library or a child process that reads
    its stdin must not eat commands."""
    commands = os.dup(0)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    return os.fdopen(commands, "rb")
