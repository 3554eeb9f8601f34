"""The colours of what two frames both show, in CIE Lab."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from i2v.finishing.stage import Frame
from i2v.video.lab import Lab, lab_of
from i2v.video.optical_flow import motion_between, sampled

LONG_SIDE = 192  # pixels, of the small copies on which colours are compared
BLUR = 1.5  # pixels there, so that moving by half a pixel makes no difference
OUTLIER = 12.0  # Lab units away from the usual change: something else is seen there


def small(frame: Frame) -> Frame:
    """A copy for comparing colours, LONG_SIDE pixels long at most."""
    import cv2

    height, width = frame.shape[:2]
    scale = min(1.0, LONG_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    reduced = frame if scale == 1 else cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(reduced)


@dataclass(frozen=True)
class Common:
    """The colours of what two small frames both show, in Lab, (N, 3) each: the same N places of things. `share`: of the
    first frame's pixels, those that the second shows too."""

    first: Lab
    second: Lab
    share: float


def common_colours(first: Frame, second: Frame, counted: NDArray[np.bool_] | None = None) -> Common:
    """What the two show of the same things. Only pixels of `first` that are `counted` give colours."""
    motion = motion_between(first, second)
    seen = motion.seen_there
    # Brought into the same place first and smoothed then: in a picture that grows the same blur would take less.
    here = _smoothed(lab_of(first), seen)
    there = _smoothed(sampled(lab_of(second), motion.there), seen)
    mask = seen > 0 if counted is None else (seen > 0) & counted
    here, there = here[mask], there[mask]
    if len(here):
        change = there - here
        usual = np.linalg.norm(change - np.median(change, axis=0), axis=-1) < OUTLIER
        here, there = here[usual], there[usual]
    return Common(here, there, float(seen.mean()))


def _smoothed(lab: Lab, seen: NDArray[np.float32]) -> Lab:
    """`lab` blurred, what is not `seen` left out."""
    import cv2

    weight = cv2.GaussianBlur(seen, (0, 0), BLUR)[..., None]
    return cv2.GaussianBlur(lab * seen[..., None], (0, 0), BLUR) / np.maximum(weight, 1e-6)
