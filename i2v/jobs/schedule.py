"""When a waiting job will have its turn, as far as the predictions go."""

from __future__ import annotations

from collections.abc import Sequence


def starts_in(running_left: float | None, ahead: Sequence[float | None]) -> float | None:
    """Seconds until the job behind `ahead` begins: what is left of the running one (0 for none), and the predicted
    seconds of those that come first. None where any of them is unknown."""
    if running_left is None or any(seconds is None for seconds in ahead):
        return None
    return running_left + sum(seconds for seconds in ahead if seconds is not None)
