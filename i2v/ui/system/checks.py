"""Looking through models beside the page, to the last bit: one after the other, whoever asks."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from i2v.cli.on_disk import with_tensors
from i2v.messages import message
from i2v.models.check import Checked, Finding, bytes_to_read, check_files
from i2v.models.kinds import ModelKind

log = logging.getLogger(__name__)

State = Literal["waiting", "reading", "comparing", "done"]
Tensors = Callable[[Checked], Checked]


@dataclass(frozen=True)
class Check:
    """How far it is. `reading` its files, of which `done_bytes` are read; `comparing` the weights with the network that
    its configurations make; `done` with what was found."""

    state: State = "waiting"
    done_bytes: int = 0
    total_bytes: int = 0
    checked: Checked | None = None


class _Stopped(Exception):
    """Nobody wants to know any more."""


class ModelChecks:
    """Any thread may call. A model is known by its folder."""

    def __init__(self, kind_of: Callable[[Path], ModelKind], tensors: Tensors = with_tensors) -> None:
        self._kind_of, self._tensors = kind_of, tensors
        self._lock = threading.Lock()
        self._checks: dict[Path, Check] = {}
        self._runs = False

    def of(self, folder: Path | None) -> Check | None:
        """What is known of a model; None where nobody has asked."""
        return self._checks.get(folder) if folder is not None else None

    def start(self, folder: Path) -> None:
        """Look through a model when those before it are done; one that waits or is at it already goes on."""
        with self._lock:
            if (known := self._checks.get(folder)) is None or known.state == "done":
                self._checks.pop(folder, None)
                self._checks[folder] = Check()
            if not self._runs:
                self._runs = True
                threading.Thread(target=self._run, name="models", daemon=True).start()

    def forget(self, folder: Path | None) -> None:
        """Stop looking, and know nothing of it any more: it goes, or it changes."""
        with self._lock:
            if folder is not None:
                self._checks.pop(folder, None)

    def _run(self) -> None:
        while True:
            with self._lock:
                folder = next((one for one, check in self._checks.items() if check.state == "waiting"), None)
                if folder is None:
                    self._runs = False
                    return
                self._checks[folder] = started = Check("reading")
            try:
                self._look_through(folder, started)
            except _Stopped:
                continue
            except Exception as error:
                log.exception("a model could not be looked through")
                told = message("models.unreadable", file=str(folder), reason=f"{type(error).__name__}: {error}")
                with self._lock:
                    if (now := self._checks.get(folder)) is not None and now.state != "waiting":
                        self._checks[folder] = Check("done", checked=Checked(ModelKind(folder), (Finding(told),)))

    def _look_through(self, folder: Path, last: Check) -> None:
        kind = self._kind_of(folder)
        total, done = bytes_to_read(kind), 0

        def on_bytes(count: int) -> None:
            nonlocal done, last
            done += count
            last = self._tell(folder, last, Check("reading", done, total))

        last = self._tell(folder, last, Check("reading", 0, total))
        checked = check_files(kind, on_bytes)
        if checked.well:
            last = self._tell(folder, last, Check("comparing", total, total))
            checked = self._tensors(checked)
        self._tell(folder, last, Check("done", total, total, checked))

    def _tell(self, folder: Path, last: Check, now: Check) -> Check:
        """What is known from now on. Raises _Stopped where it was forgotten since, and perhaps asked for anew."""
        with self._lock:
            if self._checks.get(folder) is not last:
                raise _Stopped
            self._checks[folder] = now
        return now
