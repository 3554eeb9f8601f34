"""The worker as the service holds it: a child process with commands in, reports out and a log of its prints."""

from __future__ import annotations

import logging
import logging.handlers
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from i2v.jobs.protocol import Command, Report, decode_report, encode

WORKER_COMMAND = (sys.executable, "-m", "i2v.worker")
SECONDS_TO_END = 2.0

_ROOT = Path(__file__).parents[2]
_LOG_BYTES, _LOGS_KEPT = 2 * 2**20, 3
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


class Worker:
    """One child process. It sees only the card `card`, a UUID, or none when that is empty.

    `send` may be called from any thread; `reports` by one.
    """

    def __init__(self, card: str, log_path: Path, command: Sequence[str] = WORKER_COMMAND) -> None:
        """Start it; returns at once. Raises OSError when the process or its log cannot be made."""
        self.card = card
        self.log_path = log_path
        pump = _open_log(log_path)
        reading, writing = os.pipe()
        self._reports = os.fdopen(reading, "rb")
        try:
            self._process = subprocess.Popen(
                [*command, "--reports", str(writing), "--parent", str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(writing,),
                cwd=_ROOT,
                env=worker_environment(card, os.environ),
                start_new_session=True,  # Ctrl-C in the terminal is for the service; it then ends the worker
            )
        except OSError:
            self._reports.close()
            raise
        finally:
            os.close(writing)
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
            self._process.stdin.write(encode(command))
            self._process.stdin.flush()

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
            self._process.stdin.close()

    def end(self, seconds: float = SECONDS_TO_END) -> int:
        """Hang up, kill it when it is still there after `seconds`, and return its exit code (negative: a signal)."""
        self.hang_up()
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
        finally:
            # What it had started goes with it: an encoder left alone would finish half a video.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _pump(self, handler: logging.Handler) -> None:
        """Copy what the worker prints to the log until it ends."""
        name = f"worker {self._process.pid}"
        for line in self._process.stdout:
            text = line.decode("utf-8", "replace").rstrip()
            handler.handle(logging.LogRecord(name, logging.INFO, "", 0, "%s", (text,), None))
        handler.close()


def worker_environment(card: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The worker's environment: ours, with one card or none to see, in the order NVML counts, and no telemetry."""
    patience = {} if "OMP_WAIT_POLICY" in environ else _PATIENCE
    return {**patience, **environ, **_QUIET, "CUDA_VISIBLE_DEVICES": card, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


def _open_log(path: Path) -> logging.Handler:
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=_LOG_BYTES, backupCount=_LOGS_KEPT, encoding="utf-8")
    handler.handleError = lambda record: None  # a full disk loses log lines, nothing else
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s"))
    return handler
