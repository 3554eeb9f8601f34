"""Lending the card: when another program has come to need it, and when it has gone again."""

from __future__ import annotations

from i2v.hardware.probe import Gpu

SHORT_BYTES = 256 * 2**20  # free on the card: whoever asks for more now does not get it
GROWN_SHARE = 0.05  # of the card, by which a program must have grown to be the one that needs it
SPARE_BYTES = 512 * 2**20  # beside what the job needs, before it comes back


def should_lend(before: Gpu, now: Gpu, worker_pid: int) -> str | None:
    """The program that has taken memory since `before` on a card that has none left; None where there is none."""
    if now.free_bytes is None or now.free_bytes > SHORT_BYTES:
        return None
    held = {process.pid: process.used_bytes or 0 for process in before.processes}
    grown = [
        ((process.used_bytes or 0) - held.get(process.pid, 0), process.name)
        for process in now.processes
        if process.pid != worker_pid
    ]
    size, name = max(grown, default=(0, ""))
    return name if size >= GROWN_SHARE * now.total_bytes else None


def may_return(now: Gpu, needed_bytes: int) -> bool:
    """Whether a job that holds `needed_bytes` at its peak has room again, and some to spare."""
    return now.free_bytes is not None and now.free_bytes >= needed_bytes + SPARE_BYTES
