"""Where each pixel of one frame is in another: dense optical flow, by OpenCV, and where it can be trusted.

A flow is (H, W, 2): for each pixel how many pixels to the right and down the same thing is in the other frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.uint8]
Floats = NDArray[np.float32]
Search = Callable[[Grey, Grey], Floats]

METHOD = "opencv-dis"
"""What finds the motion, as reports name it: dense inverse search (Kroeger and others 2016)."""

_LEAST_SIDE = 16  # pixels; smaller pictures are enlarged for the search


@dataclass(frozen=True)
class FrameMotion:
    """The motion between two frames, in pixels. `there`: the flow from the first to the second; `back`: from the second
    to the first. `seen_there` (H, W) is 1 where what the first shows is to be seen in the second too, else 0;
    `seen_back` the same of the second."""

    there: Floats
    back: Floats
    seen_there: Floats
    seen_back: Floats


def motion_between(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> FrameMotion:
    """The motion from `first` to `second`, RGB frames (H, W, 3), searched in both directions."""
    import cv2

    one, other = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (first, second))
    search = flow_search()
    there, back = search(one, other), search(other, one)
    seen_there, seen_back = agreeing(there, back), agreeing(back, there)
    return FrameMotion(there, back, seen_there.astype(np.float32), seen_back.astype(np.float32))


def flow_search(*, quick: bool = False) -> Search:
    """What finds the flow from a first grey picture (H, W) to a second. It keeps its working memory from call to call,
    and is for one thread. A `quick` one is less exact, and good enough to see where the way back agrees."""
    import cv2

    preset = cv2.DISOPTICAL_FLOW_PRESET_FAST if quick else cv2.DISOPTICAL_FLOW_PRESET_MEDIUM
    dis = cv2.DISOpticalFlow_create(preset)

    def flow(first: Grey, second: Grey) -> Floats:
        height, width = first.shape
        scale = _LEAST_SIDE / min(height, width)
        if scale <= 1:
            return dis.calc(first, second, None)
        size = round(width * scale), round(height * scale)
        one, other = (cv2.resize(grey, size, interpolation=cv2.INTER_LINEAR) for grey in (first, second))
        return cv2.resize(dis.calc(one, other, None), (width, height)) / scale

    return flow


def sampled(values: Floats, flow: Floats, *, sharp: bool = False) -> Floats:
    """`values` (H, W) or (H, W, C), C up to 4, looked up where the flow leads to; beyond their border they go on as
    they end. Bilinear, or `sharp`: bicubic, which may go a little beyond the values that there are."""
    import cv2

    kind = cv2.INTER_CUBIC if sharp else cv2.INTER_LINEAR
    return cv2.remap(values, _places(flow), None, kind, borderMode=cv2.BORDER_REPLICATE)


def agreeing(there: Floats, back: Floats) -> NDArray[np.bool_]:
    """Where (H, W) the flow stays in the picture and the flow back returns to where it began, so that both pictures
    show the same thing; the bound is that of Sundaram, Brox and Keutzer (2010)."""
    height, width = there.shape[:2]
    places = _places(there)
    x, y = places[..., 0], places[..., 1]
    inside = (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)
    returned = sampled(back, there)
    return inside & (_squared(there + returned) < 0.01 * (_squared(there) + _squared(returned)) + 0.5)


def _squared(flow: Floats) -> Floats:
    return flow[..., 0] ** 2 + flow[..., 1] ** 2  # a sum over an axis of two takes ten times as long


def _places(flow: Floats) -> Floats:
    """Where the flow leads to from each pixel, (H, W, 2): x and y."""
    height, width = flow.shape[:2]
    places = flow.astype(np.float32)
    places[..., 0] += np.arange(width, dtype=np.float32)
    places[..., 1] += np.arange(height, dtype=np.float32)[:, None]
    return places
