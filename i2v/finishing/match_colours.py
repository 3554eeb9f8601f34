"""Each frame's colours matched to the photograph's: mean and covariance in Lab, of what both show.

What of the photograph is still to be seen in a frame is found by its motion; of what is not, nothing is asked. The map
from colours to colours is the one that changes them least among all that give them mean and covariance.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from i2v.finishing.common_colours import common_colours, small
from i2v.finishing.stage import Frame
from i2v.finishing.steady import Values, softened, trend_at
from i2v.video.lab import Lab, lab_of, rgb_of

LOOK_AHEAD = 4
LEAST_CHANGE = 0.8  # Lab units, root mean square over a frame: less is not seen
LEAST_SHARE = 0.1  # of the photograph that a frame has to show
RENEWED_BELOW = 0.6  # of it; with less another frame takes its place
LEAST_VARIANCE = 1.0  # squared Lab units; what is even has a covariance of noise
MOST_STRETCH = 2.0  # of colours along any axis, and one over this the least


@dataclass(frozen=True)
class _Waiting:
    """A frame that waits for those after it, and the map found for it: a 3 x 3 matrix and what is added, in a row."""

    frame: Frame
    little: Frame
    found: Values | None


class MatchColours:
    """The stage. `reference`: the photograph as the video shows it; the first frame where there is none. `still`: True
    where nothing is to move, of the photograph's size; None where that is not known."""

    name = "match_colours"
    look_ahead = LOOK_AHEAD

    def __init__(self, reference: Frame | None, still: NDArray[np.bool_] | None = None) -> None:
        self._reference = None if reference is None else small(reference)
        self._still = still
        self._matched_last: Frame | None = None
        self._changes: list[float] = []
        self._differences: list[float] = []

    def frames(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        ahead: deque[_Waiting] = deque()
        past: deque[Values | None] = deque(maxlen=LOOK_AHEAD)
        for frame in frames:
            little = small(frame)
            if self._reference is None:
                self._reference = little
            ahead.append(_Waiting(frame, little, self._found(little)))
            if len(ahead) > LOOK_AHEAD:
                yield self._matched(ahead, past)
        while ahead:
            yield self._matched(ahead, past)

    def told(self) -> dict[str, Any]:
        return {
            "frames_changed": sum(change > 0 for change in self._changes),
            "largest_change": round(max(self._changes, default=0.0), 3),
            "difference_found": [round(one, 3) for one in self._differences],
        }

    def _found(self, little: Frame) -> Values | None:
        """The map from the colours of `little` to the photograph's; None where nothing leads from one to the other.
        Before the photograph has gone, the frame that was matched last stands for it."""
        assert self._reference is not None
        both = common_colours(self._reference, little, self._counted())
        if both.share < RENEWED_BELOW and self._matched_last is not None:
            self._reference, self._still = self._matched_last, None
            both = common_colours(self._reference, little)
        if both.share < LEAST_SHARE or not len(both.first):
            self._matched_last = None
            return None
        matrix = _least_change(_covariance(both.second), _covariance(both.first))
        added = both.first.mean(0, dtype=np.float64) - matrix @ both.second.mean(0, dtype=np.float64)
        found = np.concatenate([matrix.ravel(), added])
        self._matched_last = rgb_of(_mapped(lab_of(little), found, 1.0))
        return found

    def _counted(self) -> NDArray[np.bool_] | None:
        """Which pixels of the small photograph count: what is to stay still, where that is enough."""
        if self._still is None or self._reference is None:
            return None
        height, width = self._reference.shape[:2]
        rows = np.arange(height) * self._still.shape[0] // height
        columns = np.arange(width) * self._still.shape[1] // width
        counted = self._still[rows][:, columns]
        return counted if counted.mean() >= 2 * LEAST_SHARE else None

    def _matched(self, ahead: deque[_Waiting], past: deque[Values | None]) -> Frame:
        """The first of `ahead`, finished; what was found for it goes from there to `past`."""
        now = ahead.popleft()
        before = [one for one in past if one is not None]
        after = [one.found for one in ahead if one.found is not None]
        past.append(now.found)
        own = [] if now.found is None else [now.found]
        if not (rows := [*before, *own, *after]):
            self._differences.append(0.0)
            self._changes.append(0.0)
            return now.frame
        found = trend_at(np.array(rows), min(len(before), len(rows) - 1), LOOK_AHEAD)
        colours = lab_of(now.little)
        seen = float(np.sqrt(np.square(_mapped(colours, found, 1.0) - colours).sum(-1).mean()))
        share = softened(seen, LEAST_CHANGE)
        self._differences.append(seen)
        self._changes.append(seen * share)
        return rgb_of(_mapped(lab_of(now.frame), found, share)) if share else now.frame


def _mapped(lab: Lab, found: Values, share: float) -> Lab:
    """`lab` with `share` of what the map `found` changes."""
    mapped = lab @ found[:9].reshape(3, 3).T.astype(np.float32) + found[9:].astype(np.float32)
    return (lab + np.float32(share) * (mapped - lab)).astype(np.float32)


def _covariance(colours: Lab) -> Values:
    return np.cov(colours, rowvar=False, dtype=np.float64) + LEAST_VARIANCE * np.eye(3)


def _least_change(have: Values, wanted: Values) -> Values:
    """The symmetric matrix that takes the covariance `have` to `wanted` (the optimal transport between two normal
    distributions), no axis stretched by more than MOST_STRETCH."""
    root, back = _power(have, 0.5), _power(have, -0.5)
    matrix = back @ _power(root @ wanted @ root, 0.5) @ back
    stretches, axes = np.linalg.eigh(matrix)
    return (axes * stretches.clip(1 / MOST_STRETCH, MOST_STRETCH)) @ axes.T


def _power(matrix: Values, exponent: float) -> Values:
    values, axes = np.linalg.eigh(matrix)
    return (axes * values.clip(1e-12) ** exponent) @ axes.T
