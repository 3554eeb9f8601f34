"""Values that change from frame to frame, made smooth: the part that stays when the flicker is taken off."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def trend_at(values: Values, place: int, reach: int) -> Values:
    """What `values` (N, D), one row a frame, come to at row `place` without their flicker: a straight line through the
    rows up to `reach` away, the near ones counting most. A line that rises evenly is given back as it is, at both ends
    too."""
    if len(values) == 1:
        return values[0]
    away = np.arange(len(values)) - place
    weights = (1 - np.minimum(np.abs(away) / (reach + 1), 1) ** 3) ** 3
    basis = np.stack([np.ones(len(values)), away], axis=1)
    scaled = np.sqrt(weights)[:, None]
    line, *_ = np.linalg.lstsq(basis * scaled, values * scaled, rcond=None)
    return line[0]


def softened(change: float, least: float) -> float:
    """How much of a change that is seen by `change` is made: nothing below `least`, all of it from twice that on, and
    evenly more between, so that no frame is treated quite otherwise than the one before it."""
    return min(1.0, max(0.0, change / least - 1))
