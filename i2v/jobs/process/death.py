"""Why a worker ended in the middle of a job, in words for the person whose job it was.

A process killed for want of memory cannot say so, so the service watches the computer's memory while a job runs.
"""

from __future__ import annotations

import signal
import threading
from dataclasses import dataclass
from pathlib import Path

import psutil

from i2v.messages import Message, message
from i2v.units import GIB
from i2v.wire.worker import EXIT_CARD_LOST

# Below this share of RAM the system is about to kill something; Linux keeps about 1 % for itself.
_LOW_SHARE = 0.03
_SECONDS_BETWEEN_LOOKS = 0.25


@dataclass(frozen=True)
class RamSeen:
    """The computer's memory while a job ran. `kills` counts what the kernel killed meanwhile for want of memory,
    0 where it does not tell."""

    total_bytes: int
    lowest_available_bytes: int
    highest_worker_bytes: int
    kills: int

    @property
    def short(self) -> bool:
        """Whether memory was so short that a process had to go."""
        return self.kills > 0 or self.lowest_available_bytes < _LOW_SHARE * self.total_bytes


class RamWatch:
    """Looks at the computer's memory and at process `pid` a few times a second until `stop`."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._kills_before = _kernel_kills()
        self._lowest_available = psutil.virtual_memory().available
        self._highest_worker = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look, name="ram-watch", daemon=True)
        self._thread.start()

    def stop(self) -> RamSeen:
        """End the watch and return what it saw."""
        self._stopped.set()
        self._thread.join()
        return RamSeen(
            total_bytes=psutil.virtual_memory().total,
            lowest_available_bytes=self._lowest_available,
            highest_worker_bytes=self._highest_worker,
            kills=_kernel_kills() - self._kills_before,
        )

    def _look(self) -> None:
        process = None
        while not self._stopped.wait(_SECONDS_BETWEEN_LOOKS):
            self._lowest_available = min(self._lowest_available, psutil.virtual_memory().available)
            try:
                process = process or psutil.Process(self._pid)
                self._highest_worker = max(self._highest_worker, process.memory_info().rss)
            except psutil.Error:
                return  # it is gone


def explain_death(exit_code: int, ram: RamSeen, log_path: Path) -> Message:
    """The message for a worker that ended with `exit_code` (negative: killed by that signal) during a job."""
    log = str(log_path)
    if exit_code == -signal.SIGKILL:
        return message(
            "jobs.worker_out_of_ram" if ram.short else "jobs.worker_killed",
            worker_gib=_gib(ram.highest_worker_bytes),
            available_gib=_gib(ram.lowest_available_bytes),
            total_gib=_gib(ram.total_bytes),
            log=log,
        )
    if exit_code == EXIT_CARD_LOST:
        return message("jobs.card_lost", log=log)
    if exit_code < 0:
        return message("jobs.worker_crashed", signal=_signal_name(-exit_code), log=log)
    return message("jobs.worker_exited", code=exit_code, log=log)


def _gib(size_bytes: int) -> float:
    return round(size_bytes / GIB, 1)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def _kernel_kills() -> int:
    """How many processes this Linux has killed for want of memory since it started; 0 elsewhere."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
