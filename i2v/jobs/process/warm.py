"""The warm parent as the app holds it: `WarmParent.start` gives processes that compute in a twentieth of a second, and
as new processes wherever that cannot be. The other end is `i2v.worker.warm`.

What it starts is a child of the app like any other. The app asks the kernel for its orphans, and the warm parent leaves
the process as one: so its exit code is read here, it ends with the app, and it lives on when the warm parent dies.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

import psutil

from i2v.jobs.process.start import ROOT, Forked, Process, start_cold, worker_environment
from i2v.wire.fork import ForkRequest, send

log = logging.getLogger(__name__)

COMMAND = (sys.executable, "-m", "i2v.worker.warm")
SECONDS_TO_IMPORT = 300.0  # from a slow disk, beside other work
SECONDS_TO_FORK = 20.0
MOST_FAILURES = 3  # in a row, before it is given up

_PR_SET_CHILD_SUBREAPER = 36
_SECONDS_BETWEEN_LOOKS = 0.5

_Wanted = tuple[ForkRequest, list[int]]


# No card is looked for: a fork of a process that has woken CUDA cannot use it. And numpy's own linear algebra,
# which torch does not use, would start a thread for each core, and a process with threads is not forked.
_FORKABLE = {"PYTORCH_NVML_BASED_CUDA_CHECK": "1", "OPENBLAS_NUM_THREADS": "1"}


class WarmParentError(Exception):
    """It cannot fork: the message says why."""


class WarmParent:
    """Started when it is needed for the first time, or by `warm_up`, and again when it has ended. Any thread may call.
    `close` it when done; what it has started goes on."""

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        self._command = command
        self._asked: SimpleQueue[tuple[_Wanted | None, Future[int]] | None] = SimpleQueue()
        self._process: subprocess.Popen[bytes] | None = None
        self._asking: socket.socket | None = None
        self._useless = sys.platform != "linux"  # elsewhere there is no asking for orphans
        self._failures = 0
        self._closed = False
        self._changing = threading.Lock()
        # The kernel ends it, as a process bound to us, when the thread ends that has started it.
        self._thread = threading.Thread(target=self._work, name="warm-parent", daemon=True)

    @property
    def pid(self) -> int | None:
        """Its process id; None while it does not run."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def warm_up(self) -> Future[int]:
        """Have it started, so that nobody need wait for that later. Returns at once; the result comes when it is
        ready, or an OSError or WarmParentError."""
        ready: Future[int] = Future()
        self._put((None, ready))
        return ready

    def start(self, command: Sequence[str], environment: Mapping[str, str], files: Mapping[int, int]) -> Process:
        """As `processes.Start` says. Waits for the imports where they are not through."""
        if command[0] == sys.executable and not self._useless:
            pid: Future[int] = Future()
            self._put(((ForkRequest(tuple(command[1:]), dict(environment), tuple(files)), list(files.values())), pid))
            try:
                return Forked(pid.result())
            except (OSError, ValueError, WarmParentError) as error:
                log.warning("A new process is started, since none can be forked: %s", error)
        return start_cold(command, environment, files)

    def close(self) -> None:
        """End it. Whoever waits for it, or wants something of it later, gets a new process."""
        with self._changing:
            if self._closed:
                return
            self._closed = True
            self._asked.put(None)
            if self._process is not None:
                self._process.kill()
        if self._thread.ident is not None:
            self._thread.join()

    def _put(self, asked: tuple[_Wanted | None, Future[int]]) -> None:
        with self._changing:
            if not self._closed:
                if self._thread.ident is None:
                    self._thread.start()
                self._asked.put(asked)
                return
        asked[1].set_exception(WarmParentError("the app is closing"))

    # --- in its own thread ---

    def _work(self) -> None:
        while (asked := self._asked.get()) is not None:
            wanted, told = asked
            try:
                told.set_result(self._give(wanted))
            except Exception as error:
                told.set_exception(error)
        self._end()

    def _give(self, wanted: _Wanted | None) -> int:
        """Fork what is wanted, with a new warm parent where the one at hand fails; its process id."""
        was_there = self.pid is not None
        try:
            return self._fork(wanted)
        except (OSError, ValueError, WarmParentError) as error:
            self._end()
            if not was_there or self._useless or self._closed:
                raise
            log.warning("The warm parent is started again: %s", error)
            return self._fork(wanted)

    def _fork(self, wanted: _Wanted | None) -> int:
        if self.pid is None:
            self._end()
            self._begin()
        if wanted is None:
            return self.pid or 0
        send(self._asking, *wanted)
        told = self._answer(SECONDS_TO_FORK)
        if "error" in told:
            raise WarmParentError(told["error"])
        return int(told["pid"])

    def _begin(self) -> None:
        """Start it and wait for its imports."""
        if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            self._useless = True
            raise WarmParentError("this system has no such thing as a subreaper")
        self._failures += 1
        self._useless = self._failures >= MOST_FAILURES
        self._asking, theirs = socket.socketpair()
        with theirs, self._changing:
            if self._closed:
                raise WarmParentError("the app is closing")
            self._process = subprocess.Popen(
                [*self._command, "--socket", str(theirs.fileno()), "--parent", str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                cwd=ROOT,
                env={**worker_environment("", os.environ), **_FORKABLE},
                start_new_session=True,
            )
        if "error" in (told := self._answer(SECONDS_TO_IMPORT)):
            self._useless = True
            raise WarmParentError(told["error"])
        self._failures, self._useless = 0, False

    def _answer(self, seconds: float) -> dict[str, Any]:
        """What it says next. Raises WarmParentError where it has ended, was stopped, or says nothing for `seconds`."""
        deadline, line = time.monotonic() + seconds, b""
        while not line.endswith(b"\n"):
            if not select.select([self._asking], [], [], _SECONDS_BETWEEN_LOOKS)[0]:
                self._look_at_it(deadline)
                continue
            part = self._asking.recv(4096)
            if not part:
                raise WarmParentError("it has ended")
            line += part
        return json.loads(line)

    def _look_at_it(self, deadline: float) -> None:
        with suppress(psutil.Error):
            if psutil.Process(self._process.pid).status() == psutil.STATUS_STOPPED:
                raise WarmParentError("it was stopped")
        if time.monotonic() > deadline:
            raise WarmParentError("it says nothing")

    def _end(self) -> None:
        """Forget the one that is there, if any."""
        if self._asking is not None:
            self._asking.close()
            self._asking = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
