"""Brightness and colour steadied from frame to frame, slow changes left as they are.

What two frames both show is found by its motion, so that neither a moving thing nor a moving camera counts as flicker.
How its colours change, added up from pair to pair, is a curve; what the curve has beside its trend is taken off.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from i2v.finishing.common_colours import common_colours, small
from i2v.finishing.stage import Frame
from i2v.finishing.steady import Values, softened, trend_at
from i2v.video.lab import Lab, lab_of, rgb_of

LOOK_AHEAD = 12
LEAST_CHANGE = 0.3  # Lab units, root mean square over a frame: less is not seen
LEAST_SHARE = 0.1  # of a small frame that the next must show too; with less it is a cut
LEAST_SPREAD = 2.0  # Lab units; of a channel with less nothing is known but its mean
MOST_GAIN = 0.5  # of the natural logarithm, from frame to frame


@dataclass(frozen=True)
class _Seen:
    """A frame that waits for those after it. `light`: of each Lab channel the logarithm of its contrast, and its mean,
    as they have added up since the first frame of `scene`."""

    frame: Frame
    little: Frame
    light: Values
    scene: int


class Deflicker:
    """The stage. Holds LOOK_AHEAD frames on either side of the one it works on, of those behind only numbers."""

    name = "deflicker"
    look_ahead = LOOK_AHEAD

    def __init__(self) -> None:
        self._lightness: list[float] = []
        self._changes: list[float] = []

    def frames(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        ahead: deque[_Seen] = deque()
        past: deque[tuple[int, Values]] = deque(maxlen=LOOK_AHEAD)
        last: _Seen | None = None
        for frame in frames:
            last = _seen(frame, last)
            ahead.append(last)
            if len(ahead) > LOOK_AHEAD:
                yield self._steadied(ahead, past)
        while ahead:
            yield self._steadied(ahead, past)

    def told(self) -> dict[str, Any]:
        return {
            "frames_changed": sum(change > 0 for change in self._changes),
            "largest_change": round(max(self._changes, default=0.0), 3),
            "lightness_added": [round(added, 3) + 0.0 for added in self._lightness],
        }

    def _steadied(self, ahead: deque[_Seen], past: deque[tuple[int, Values]]) -> Frame:
        """The first of `ahead`, finished; it goes from there to `past`."""
        now = ahead[0]
        before = [light for scene, light in past if scene == now.scene]
        rows = [*before, *(one.light for one in ahead if one.scene == now.scene)]
        change = trend_at(np.array(rows), len(before), LOOK_AHEAD) - now.light
        past.append((now.scene, now.light))
        ahead.popleft()
        colours = lab_of(now.little)
        middle = colours.reshape(-1, 3).mean(0)
        seen = float(np.sqrt(np.square(_changed(colours, middle, change) - colours).sum(-1).mean()))
        share = softened(seen, LEAST_CHANGE)
        self._changes.append(seen * share)
        self._lightness.append(float(change[3]) * share)
        return rgb_of(_changed(lab_of(now.frame), middle, change * share)) if share else now.frame


def _changed(lab: Lab, middle: Lab, change: Values) -> Lab:
    """`lab` with the contrast around `middle`, and the means, changed by so much."""
    return ((lab - middle) * np.exp(change[:3]) + middle + change[3:]).astype(np.float32)


def _seen(frame: Frame, last: _Seen | None) -> _Seen:
    little = small(frame)
    if last is None:
        return _Seen(frame, little, np.zeros(6), 0)
    both = common_colours(last.little, little)
    if both.share < LEAST_SHARE or not len(both.first):
        return _Seen(frame, little, np.zeros(6), last.scene + 1)
    before, after = both.first, both.second
    spreads = before.std(0, dtype=np.float64), after.std(0, dtype=np.float64)
    known = np.minimum(*spreads) > LEAST_SPREAD
    gains = np.log(np.where(known, spreads[1], 1) / np.where(known, spreads[0], 1)).clip(-MOST_GAIN, MOST_GAIN)
    means = after.mean(0, dtype=np.float64) - before.mean(0, dtype=np.float64)
    return _Seen(frame, little, last.light + np.concatenate([gains, means]), last.scene)
