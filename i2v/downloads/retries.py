"""When a download that broke off is tried again: arithmetic over moments, in seconds of a clock that never goes
back."""

from __future__ import annotations

MAY_PASS = ("models.unreachable", "models.unreachable_aside", "models.unreachable_proxy", "models.no_route")
"""What a network that is away for a while comes to."""
RETRY_SECONDS = (60.0, 120.0, 300.0, 600.0, 1800.0)
"""Between tries; the last one over and over."""
MOST_RETRIES = 24


class Retries:
    """Of every download that broke off, how often it was tried since bytes came last, and when it is its turn."""

    def __init__(self) -> None:
        self._tries: dict[str, int] = {}
        self._due: dict[str, float] = {}

    def forget(self, download_id: str) -> None:
        """Somebody has decided about it."""
        self._tries.pop(download_id, None)
        self._due.pop(download_id, None)

    def begins(self, download_id: str) -> None:
        """It is tried now."""
        self._due.pop(download_id, None)

    def broke_off(self, download_id: str, now: float, *, came: bool) -> float | None:
        """The seconds until it is tried again; None where it has brought nothing since somebody asked for it, or was
        tried often enough. `came`: whether this try has brought something."""
        tries = 0 if came else self._tries.get(download_id, MOST_RETRIES)
        if tries >= MOST_RETRIES:
            return None
        seconds = RETRY_SECONDS[min(tries, len(RETRY_SECONDS) - 1)]
        self._tries[download_id] = tries + 1
        self._due[download_id] = now + seconds
        return seconds

    def waits(self, download_id: str) -> bool:
        """Whether it is to be tried later."""
        return download_id in self._due

    def is_due(self, download_id: str, now: float) -> bool:
        """Whether it may come now: also one that never broke off."""
        return self._due.get(download_id, now) <= now

    def next_in(self, now: float) -> float | None:
        """The seconds until the first of them is due; None where there is none."""
        due = min(self._due.values(), default=None)
        return None if due is None else max(0.01, due - now)
