"""Measures a clip's frames as they come, two at a time; see `i2v.video.steadiness` for what the numbers mean."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image
from PIL.Image import Resampling

from i2v.video.lab import lab_of
from i2v.video.optical_flow import METHOD, agreeing, flow_search, sampled
from i2v.video.steadiness import FrameMeasure, Steadiness, summed_up

if TYPE_CHECKING:
    from numpy.typing import NDArray

LONG_SIDE = 256
"""Pixels: larger frames are measured at this size, for the sake of time."""

_LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)  # BT.709
_LEAST_SHOWN = 0.02  # of the frame; where less is in both frames, nothing is known of how the colours have changed
_LEAST_VARIANCE = 1e-4


@dataclass(frozen=True)
class _Looked:
    """A frame at the size that is measured: colours 0 to 1, the same in CIE Lab, and its brightness."""

    rgb: NDArray[np.float32]
    lab: NDArray[np.float32]
    luma: NDArray[np.float32]
    grey: NDArray[np.uint8]


class SteadinessMeter:
    """`add` each frame of a clip in turn, then ask for the `report`. Holds one small frame and its motion."""

    def __init__(
        self,
        fps: float,
        *,
        seams: Collection[int] = (),
        source: Literal["frames", "video"] = "frames",
    ) -> None:
        """`seams`: the first frames of windows, counted from 0."""
        self._fps, self._seams, self._source = fps, tuple(seams), source
        self._search, self._quick_search = flow_search(), flow_search(quick=True)
        self._measures: list[FrameMeasure] = []
        self._before: _Looked | None = None
        self._flow: NDArray[np.float32] | None = None

    def add(self, frame: NDArray[np.uint8]) -> None:
        """The next frame: (height, width, 3), RGB. Raises ValueError for one of another size than those before."""
        import cv2

        now, before = _look(frame), self._before
        if before is not None and before.grey.shape != now.grey.shape:
            raise ValueError(f"a frame of another size: {now.grey.shape} after {before.grey.shape}")
        lightness, a, b, _ = cv2.mean(now.lab)
        changes = {} if before is None else self._changes(before, now)
        self._measures.append(FrameMeasure(float(now.luma.mean()), lightness, a, b, **changes))
        self._before = now

    def report(self) -> Steadiness:
        """What the frames so far come to."""
        return summed_up(
            self._measures, self._fps, method=METHOD, seams=self._seams, source=self._source
        )  # fmt: skip

    def _changes(self, before: _Looked, now: _Looked) -> dict[str, float]:
        """What has changed, and how far things have moved."""
        back = self._search(now.grey, before.grey)
        there = self._quick_search(before.grey, now.grey)
        both = agreeing(back, there).astype(np.float32)
        rgb, lab = sampled(before.rgb, back), sampled(before.lab, back)
        side, count = max(now.grey.shape), float(both.sum())
        measured = {
            "shown": count / both.size,
            "motion": _mean_length(back) / side,
            "motion_change": 0.0 if self._flow is None else _mean_length(back - self._flow) / side,
            "likeness": _likeness(now.luma, rgb @ _LUMA),
        }
        self._flow = back
        if measured["shown"] < _LEAST_SHOWN:
            return measured
        difference = (now.rgb - rgb) * both[..., None]
        # A product of matrices adds up along the picture far faster than a sum over its first axes does.
        red_green_blue = both.ravel() @ difference.reshape(-1, 3) / count
        lightness, a, b = (float(value) for value in both.ravel() @ (now.lab - lab).reshape(-1, 3) / count)
        squares = np.square(_blurred(difference)).reshape(-1, 3)
        return {
            **measured,
            "luma_change": float(red_green_blue @ _LUMA),
            "lightness_change": lightness,
            "a_change": a,
            "b_change": b,
            "error": float(np.sqrt((both.ravel() @ squares).sum() / (3 * count))),
        }


def _look(frame: NDArray[np.uint8]) -> _Looked:
    height, width = frame.shape[:2]
    if max(height, width) > LONG_SIDE:
        scale = LONG_SIDE / max(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        frame = np.asarray(Image.fromarray(frame).resize(size, Resampling.BOX))
    rgb = frame.astype(np.float32) / 255
    luma = rgb @ _LUMA
    return _Looked(rgb, lab_of(frame), luma, np.rint(luma * 255).astype(np.uint8))


def _mean_length(flow: NDArray[np.float32]) -> float:
    return float(np.hypot(flow[..., 0], flow[..., 1]).mean())


def _likeness(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """1 for two pictures that rise and fall alike, whatever their brightness; two even ones are alike."""
    first, second = one - one.mean(), other - other.mean()
    together, apart = float((first * second).mean()), float((first**2).mean() + (second**2).mean())
    return (2 * together + _LEAST_VARIANCE) / (apart + _LEAST_VARIANCE)


def _blurred(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Over about a pixel on either side. How the finest detail falls between pixels differs from frame to frame, and
    would outweigh all else."""
    import cv2

    for _ in range(2):  # each time over a pixel and its neighbours, which count half of it
        values = cv2.GaussianBlur(values, (3, 3), 0, borderType=cv2.BORDER_REPLICATE)
    return values
