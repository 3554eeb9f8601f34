"""Clips whose motion is known, filmed from a photograph, and faults of known size put into them."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from i2v.video.picture import load_picture
from tests.photos import photograph

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Clip = list[NDArray[np.uint8]]

SIDE = 160
STEP = 1.5  # pixels a frame, of a pan

MOTIONS = ("still", "pan", "zoom", "turn")


@cache
def _picture() -> Any:
    """The photograph, without the finest detail: a lens would not have it either."""
    picture = np.asarray(load_picture(photograph()))
    scale = 1.6 * SIDE / min(picture.shape[:2])
    return cv2.GaussianBlur(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), (0, 0), 0.7)


def filmed(motion: str, count: int = 24) -> Clip:
    """`count` frames of one motion of the camera, with a part of the photograph before it."""
    picture = _picture()
    height, width = picture.shape[:2]
    frames = []
    for index in range(count):
        since = index - count / 2
        zoom, angle, moved = 1.1, 0.0, 0.0
        if motion == "pan":
            moved = STEP * since
        elif motion == "zoom":
            zoom = 1.25 * 1.008**since
        elif motion == "turn":
            zoom, angle = 1.3, 0.4 * since
        there = cv2.getRotationMatrix2D((width / 2, height / 2), angle, zoom)
        there[:, 2] += SIDE / 2 - width / 2 + moved, SIDE / 2 - height / 2
        frames.append(
            cv2.warpAffine(picture, there, (SIDE, SIDE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        )
    return frames


def brightened(clip: Clip, gains: NDArray[np.float64]) -> Clip:
    """Each frame times its own factor. Twenty levels of room are left, so that nothing is cut off at white."""
    room = 235 / 255
    return [_levels(frame * room * gain) for frame, gain in zip(clip, gains, strict=True)]


def coloured(clip: Clip, away: NDArray[np.float64]) -> Clip:
    """Each frame moved in CIE Lab, by OpenCV's own conversion; `away`: (frames, 3)."""
    made = []
    for frame, step in zip(clip, away, strict=True):
        # Muted first, so that no colour leaves what a screen can show.
        lab = cv2.cvtColor((frame * 0.6 + 50).astype(np.float32) / 255, cv2.COLOR_RGB2LAB) + step.astype(np.float32)
        made.append(_levels(255 * cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)))
    return made


def boiling(clip: Clip, strength: float, seed: int = 0) -> Clip:
    """Every surface changes by itself: soft noise of standard deviation `strength` levels, anew in each frame."""
    rng = np.random.default_rng(seed)
    made = []
    for frame in clip:
        noise = cv2.GaussianBlur(rng.standard_normal(frame.shape).astype(np.float32), (0, 0), 3.0)
        made.append(_levels(frame + strength * noise / noise.std()))
    return made


def _levels(values: NDArray[Any]) -> NDArray[np.uint8]:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
