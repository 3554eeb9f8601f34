"""The self-test of `python -m i2v doctor`, run beside the page: one at a time, whoever asks."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from i2v.cli.doctor import report
from i2v.hardware.probe import MemoryProbe, Probe
from i2v.messages import UserError
from i2v.settings.settings import Settings

log = logging.getLogger(__name__)

State = Literal["never", "running", "well", "broken"]
Report = Callable[[Settings, Probe], tuple[str, bool]]


@dataclass(frozen=True)
class Result:
    """Where the test stands, and its report once there is one."""

    state: State = "never"
    text: str = ""


class SelfTest:
    """Any thread may call."""

    def __init__(self, settings: Settings, probe: MemoryProbe, run: Report = report) -> None:
        self._settings = settings
        self._probe = probe
        self._run = run
        self._lock = threading.Lock()
        self._result = Result()

    @property
    def result(self) -> Result:
        return self._result

    def start(self, locale: str) -> Result:
        """Begin one in the reader's language, unless one runs already."""
        with self._lock:
            if self._result.state != "running":
                self._result = Result("running")
                threading.Thread(target=self._test, args=(locale,), name="self-test", daemon=True).start()
            return self._result

    def _test(self, locale: str) -> None:
        try:
            text, well = self._run(replace(self._settings, language=locale), self._probe.read())
            self._result = Result("well" if well else "broken", text)
        except UserError as error:
            self._result = Result("broken", error.message.render(locale))
        except Exception as error:
            log.exception("the self-test itself failed")
            self._result = Result("broken", f"{type(error).__name__}: {error}")
