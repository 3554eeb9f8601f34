"""CIE Lab of sRGB colours, white being that of daylight (D65), by OpenCV.

Lightness goes from 0 to 100, beside two axes of colour. A distance of 1 is just visible side by side.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Lab = NDArray[np.float32]


def lab_of(frame: NDArray[np.uint8]) -> Lab:
    """The RGB picture `frame` (height, width, 3) in Lab, of the same shape."""
    import cv2

    return cv2.cvtColor(frame.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)


def rgb_of(lab: Lab) -> NDArray[np.uint8]:
    """The RGB picture that `lab` is of, each value rounded to the nearest that there is."""
    import cv2

    rgb = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
    return np.clip(np.rint(rgb * 255), 0, 255).astype(np.uint8)
