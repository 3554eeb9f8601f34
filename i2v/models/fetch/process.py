"""The process that fetches, as whoever waits for it holds it: what it tells, and its end."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue

from i2v.models.fetch.orders import FetchLine, FetchOrder

ROOT = Path(__file__).resolve().parents[3]
_COMMAND = (sys.executable, "-m", "i2v.models.fetch.child")


class Ended(Exception):
    """The process has told all and is gone; `code` as `subprocess` has it."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(code)


class FetchProcess:
    """Runs one order. Use it in a `with` block, at whose end it is gone, whatever it did. Raises OSError."""

    def __init__(self, order: FetchOrder) -> None:
        self._process = subprocess.Popen(
            _COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # the libraries' words there may hold signed addresses
            cwd=ROOT,
            env={**os.environ, "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"},
            text=True,
            encoding="utf-8",
        )
        self._told: SimpleQueue[FetchLine | None] = SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="fetched", daemon=True)
        self._reader.start()
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(order.to_line())
            self._process.stdin.flush()

    def __enter__(self) -> FetchProcess:
        return self

    def __exit__(self, *_error: object) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def told(self, seconds: float) -> FetchLine | None:
        """The next line; None where none comes within `seconds`. Raises Ended after the last."""
        try:
            told = self._told.get(timeout=seconds)
        except Empty:
            return None
        if told is None:
            self._told.put(None)
            raise Ended(self._process.wait())
        return told

    def _read(self) -> None:
        assert self._process.stdout is not None
        with suppress(OSError, ValueError, TypeError):
            for line in self._process.stdout:
                self._told.put(FetchLine.from_line(line))
        self._told.put(None)
