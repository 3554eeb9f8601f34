"""What every finishing stage promises: frames in, frames out, a few of them in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]
"""(height, width, 3), RGB."""


class FinishingStage(Protocol):
    """One thing that is done to all frames of a clip. Made anew for each run.

    `look_ahead`: how many frames beyond the one that it hands on next it has to have seen; it holds no more."""

    name: str
    look_ahead: int

    def frames(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """The finished frames, each handed on as soon as it is final. A frame that does not change is handed on as the
        very same array."""
        ...

    def told(self) -> dict[str, Any]:
        """What it has changed so far, in numbers, as plain JSON values."""
        ...
