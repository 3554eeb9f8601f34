"""The worker as the service holds it: a child process with commands in, reports out and a log of its prints."""

from __future__ import annotations

import logging
import logging.handlers
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from i2v.jobs.process.start import Start, end_session, pipe_to_child, start_cold, worker_environment
from i2v.wire.worker import Command, Report, decode_report, encode

WORKER_COMMAND = (sys.executable, "-m", "i2v.worker")
SECONDS_TO_END = 2.0

_LOG_BYTES, _LOGS_KEPT = 2 * 2**20, 3


class Worker:
    """One child process. It sees only the card `card`, a UUID, or none when that is empty.

    `send` may be called from any thread; `reports` by one.
    """

    def __init__(
        self, card: str, log_path: Path, command: Sequence[str] = WORKER_COMMAND, start: Start = start_cold
    ) -> None:
        """Start it. Raises OSError when the process or its log cannot be made."""
        self.card = card
        self.log_path = log_path
        pump = _open_log(log_path)
        commands, self._commands = pipe_to_child("wb")
        printed, self._printed = pipe_to_child("rb")
        reports, self._reports = pipe_to_child("rb")
        try:
            self._process = start(
                [*command, "--reports", str(reports), "--parent", str(os.getpid())],
                worker_environment(card, os.environ),
                {0: commands, 1: printed, 2: printed, reports: reports},
            )
        except OSError:
            for ours in (self._commands, self._printed, self._reports):
                ours.close()
            raise
        finally:
            for theirs in (commands, printed, reports):
                os.close(theirs)
        self._sending = threading.Lock()
        threading.Thread(target=self._pump, args=(pump,), name="worker-log", daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def send(self, command: Command) -> None:
        """Raises OSError (BrokenPipeError) when the worker is gone."""
        with self._sending:
            self._commands.write(encode(command))
            self._commands.flush()

    def reports(self) -> Iterator[Report]:
        """Each report as it comes; ends when the worker's end of the pipe closes, that is with the worker.
        Raises ProtocolError for a line that is none."""
        for line in self._reports:
            yield decode_report(line)

    def kill(self) -> None:
        """End it as the system would; `reports` then comes to an end. Any thread."""
        self._process.kill()

    def hang_up(self) -> None:
        """Tell the worker that nobody commands it any more: it ends by itself, whatever it does. Any thread."""
        with self._sending, suppress(OSError):  # it may be gone already, with a command half sent
            self._commands.close()

    def end(self, seconds: float = SECONDS_TO_END) -> int:
        """Hang up, kill it when it is still there after `seconds`, and return its exit code (negative: a signal)."""
        self.hang_up()
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
        finally:
            end_session(self._process)

    def _pump(self, handler: logging.Handler) -> None:
        """Copy what the worker prints to the log until it ends."""
        name = f"worker {self._process.pid}"
        for line in self._printed:
            text = line.decode("utf-8", "replace").rstrip()
            handler.handle(logging.LogRecord(name, logging.INFO, "", 0, "%s", (text,), None))
        handler.close()


def _open_log(path: Path) -> logging.Handler:
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=_LOG_BYTES, backupCount=_LOGS_KEPT, encoding="utf-8")
    handler.handleError = lambda record: None  # a full disk loses log lines, nothing else
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s"))
    return handler
