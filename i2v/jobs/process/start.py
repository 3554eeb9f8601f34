"""How processes that compute are started and ended: a new Python here, a fork of the warm parent in `warm.py`."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Literal, Protocol

from i2v.jobs.process.allocator import allocator_setting

ROOT = Path(__file__).parents[3]

_QUIET = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",  # one prompt needs no threads, and they would be in the way when ffmpeg starts
    "PYTHONFAULTHANDLER": "1",  # a crash in native code leaves a stack in the log
    "PYTHONUNBUFFERED": "1",
}
# How long a computing thread spins before it sleeps when it waits for the others. The default is so long that other
# programs at work slow a small model down many times over (python -m bench.busy_machine); this little costs next to
# nothing on a quiet machine. Whoever sets this or OMP_WAIT_POLICY knows better.
_PATIENCE = {"GOMP_SPINCOUNT": "1000"}
_SECONDS_BETWEEN_LOOKS = 0.01
_SECONDS_TO_COLLECT = 1.0


class Process(Protocol):
    """What `subprocess.Popen` offers of a process and is needed here, for any thread."""

    pid: int

    def poll(self) -> int | None:
        """The exit code (negative: a signal); None while it runs."""
        ...

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once it has ended. Raises subprocess.TimeoutExpired after `timeout` seconds."""
        ...

    def kill(self) -> None:
        """End it as the system would."""
        ...


Start = Callable[[Sequence[str], Mapping[str, str], Mapping[int, int]], Process]
"""Starts a command line in an environment. The third argument says by which of its descriptors the process knows which
of ours; those above 2 have the same number on both sides. It runs in this project's folder, in a session of its own:
Ctrl-C in the terminal is for the app alone. Raises OSError."""


def start_cold(command: Sequence[str], environment: Mapping[str, str], files: Mapping[int, int]) -> Process:
    """A new process, as `Start` says."""
    return subprocess.Popen(
        command,
        stdin=files[0],
        stdout=files[1],
        stderr=files[2],
        pass_fds=[number for number in files if number > 2],
        cwd=ROOT,
        env=dict(environment),
        start_new_session=True,
    )


class Forked:
    """A `Process` that another process has forked for this one, as its child."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._exit_code: int | None = None
        self._collecting = threading.Lock()  # the kernel tells an exit code once

    def poll(self) -> int | None:
        with self._collecting:
            if self._exit_code is None:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self._exit_code = os.waitstatus_to_exitcode(status)
            return self._exit_code

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() >= deadline:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        return code

    def kill(self) -> None:
        with self._collecting:  # until its exit code is collected nobody else gets its number
            if self._exit_code is None:
                os.kill(self.pid, signal.SIGKILL)


def pipe_to_child(mode: Literal["r", "w", "rb", "wb"]) -> tuple[int, IO[Any]]:
    """A pipe: the child's end, to be closed when it is started, and ours, which we read or write as `mode` says."""
    reading, writing = os.pipe()
    encoding = None if "b" in mode else "utf-8"
    if "r" in mode:
        return writing, os.fdopen(reading, mode, encoding=encoding)
    return reading, os.fdopen(writing, mode, encoding=encoding)


def end_session(process: Process) -> None:
    """End what a process that has ended had started: an encoder left alone would finish half a video."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    # Where this process takes the kernel's orphans they are its own now, and corpses until they are collected.
    deadline = time.monotonic() + _SECONDS_TO_COLLECT
    with suppress(ChildProcessError):
        while time.monotonic() < deadline:
            if os.waitpid(-process.pid, os.WNOHANG) == (0, 0):
                time.sleep(_SECONDS_BETWEEN_LOOKS)


def worker_environment(card: str, environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` for a process that computes: one card or none to see, in the order NVML counts, and no telemetry."""
    patience = {} if "OMP_WAIT_POLICY" in environ else _PATIENCE
    allocator = allocator_setting(platform.release(), Path("/"), environ)
    seen = {"CUDA_VISIBLE_DEVICES": card, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    return {**patience, **allocator, **environ, **_QUIET, **seen}
