"""Frames between the decoded ones, by where things move: each is made of both its neighbours, every pixel brought along
its way, and of one alone what the other hides."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from i2v.finishing.stage import Frame
from i2v.video.optical_flow import Floats, motion_between, sampled

CUT_SHARE = 0.2  # of a frame that the next has to show too: with less nothing moves from one to the other
HIDDEN = 0.02  # how much what is hidden in the other frame counts; more than nothing, where both say so
DIFFERENCE = 12.0  # grey levels by which a pixel may miss where it is said to go and still count for 1/e
GRID_SIDE = 320  # pixels, of the grid on which motion is put together
HOLES = (2.0, 6.0, 20.0)  # pixels, from how far around a place that nothing moves to takes its motion


class Interpolate:
    """The stage: `times` as many frames a second. Over a cut the nearest frame is repeated."""

    name = "interpolate"
    look_ahead = 1

    def __init__(self, times: int) -> None:
        self._times = times
        self._made = self._cuts = 0

    def frames(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        before = next(frames, None)
        if before is None:
            return
        yield before
        for after in frames:
            yield from self._between(before, after)
            yield after
            before = after

    def told(self) -> dict[str, Any]:
        return {"times": self._times, "frames_made": self._made, "cuts_found": self._cuts, "by": "optical flow"}

    def _between(self, first: Frame, second: Frame) -> Iterator[Frame]:
        places = [step / self._times for step in range(1, self._times)]
        self._made += len(places)
        if np.array_equal(first, second):
            yield from (first for _ in places)
            return
        pair = Pair(first, second)
        self._cuts += pair.is_cut
        for place in places:
            if pair.is_cut:
                yield first if place < 0.5 else second
            else:
                yield pair.frame_at(place)


class Pair:
    """Two frames of one motion. Where both are large, the motion between them is put together on a coarser grid."""

    def __init__(self, first: Frame, second: Frame) -> None:
        self._motion = motion_between(first, second)
        self._one, self._other = first.astype(np.float32), second.astype(np.float32)
        scale = min(1.0, GRID_SIDE / max(first.shape[:2]))
        one, other, there, back = (
            _resized(values, scale) for values in (self._one, self._other, self._motion.there, self._motion.back)
        )
        self._there, self._back = there * scale, back * scale
        self._agreement = _agreement(one, other, self._there), _agreement(other, one, self._back)
        self._scale = scale

    @property
    def is_cut(self) -> bool:
        """Whether so little of one is in the other that nothing moves between them."""
        return bool(max(self._motion.seen_there.mean(), self._motion.seen_back.mean()) < CUT_SHARE)

    def frame_at(self, place: float) -> Frame:
        """The frame at `place`, 0 the first and 1 the second."""
        way = self._way_at(place)
        from_first, from_second = -place * way, (1 - place) * way
        in_second = sampled(self._motion.seen_there, from_first)
        in_first = sampled(self._motion.seen_back, from_second)
        weight_first = ((1 - place) * (in_first + HIDDEN))[..., None]
        weight_second = (place * (in_second + HIDDEN))[..., None]
        brought = sampled(self._one, from_first, sharp=True), sampled(self._other, from_second, sharp=True)
        mixed = weight_first * brought[0] + weight_second * brought[1]
        return np.clip(np.rint(mixed / (weight_first + weight_second)), 0, 255).astype(np.uint8)

    def _way_at(self, place: float) -> Floats:
        """For each pixel of the frame at `place` the motion, from the first frame to the second, of what it shows."""
        height, width = self._there.shape[:2]
        total = np.zeros((3, height * width))
        _splat(total, self._there, place * self._there, self._agreement[0] * (1 - place))
        _splat(total, -self._back, (1 - place) * self._back, self._agreement[1] * place)
        weighted = np.moveaxis(total.reshape(3, height, width), 0, -1).astype(np.float32)
        return _resized(_filled(weighted[..., :2], weighted[..., 2]), 1, self._one.shape[:2]) / np.float32(self._scale)


def _resized(values: Floats, scale: float, shape: tuple[int, int] | None = None) -> Floats:
    """`values` (H, W, C) at `scale`, or in another `shape` (height, width)."""
    import cv2

    height, width = shape or (max(1, round(values.shape[0] * scale)), max(1, round(values.shape[1] * scale)))
    if (height, width) == values.shape[:2]:
        return values
    return cv2.resize(values, (width, height), interpolation=cv2.INTER_AREA if shape is None else cv2.INTER_LINEAR)


def _agreement(one: Floats, other: Floats, way: Floats) -> Floats:
    """How well each pixel of `one` is found in `other` at the end of its way: 1 the same, next to 0 quite another."""
    missed = np.abs(sampled(other, way) - one).mean(-1)
    return np.exp(-missed / DIFFERENCE) + 1e-4


def _splat(total: NDArray[np.float64], values: Floats, way: Floats, weights: Floats) -> None:
    """Add each pixel's `values` (H, W, 2), times its weight, to the four pixels around the place that it goes to by
    `way`, and its weight; what goes out of the frame is lost."""
    height, width = weights.shape
    rows, columns = np.indices((height, width), dtype=np.float32)
    row, column = rows + way[..., 1], columns + way[..., 0]
    row0, column0 = np.floor(row), np.floor(column)
    for down in (0, 1):
        for right in (0, 1):
            to_row, to_column = row0 + down, column0 + right
            share = (1 - np.abs(row - to_row)) * (1 - np.abs(column - to_column)) * weights
            inside = (to_row >= 0) & (to_row < height) & (to_column >= 0) & (to_column < width)
            where = (to_row[inside] * width + to_column[inside]).astype(np.int64)
            for channel, value in enumerate((values[..., 0], values[..., 1], 1.0)):
                added = (share * value)[inside]
                total[channel] += np.bincount(where, weights=added, minlength=height * width)


def _filled(weighted: Floats, weight: Floats) -> Floats:
    """`weighted` (H, W, 2) by its `weight`, where that is next to nothing the mean of ever wider surroundings."""
    import cv2

    result, known = weighted / np.maximum(weight, 1e-9)[..., None], np.minimum(weight / 0.1, 1)
    for reach in HOLES:
        around = cv2.GaussianBlur(weighted, (0, 0), reach), cv2.GaussianBlur(weight, (0, 0), reach)
        guess = around[0] / np.maximum(around[1], 1e-9)[..., None]
        result = known[..., None] * result + (1 - known[..., None]) * guess
        known = np.maximum(known, np.minimum(around[1] / 0.01, 1))
    return result.astype(np.float32)
