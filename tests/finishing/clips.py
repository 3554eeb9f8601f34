"""Clips whose motion is known, of a real photograph; and flicker and drift of colours put on them, known too."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image

from tests.photos import photograph

Frames = list[np.ndarray]


def moving_camera(count: int, width: int = 160, height: int = 120, pan: float = 1.7, zoom: float = 0.01) -> Frames:
    """A camera that pans by `pan` pixels of the photograph a frame and comes closer by the share `zoom` of its start.
    The photograph is smoothed before, so that no frame has less detail than another for want of pixels."""
    photo = cv2.GaussianBlur(np.asarray(Image.open(photograph()).convert("RGB")).astype(np.float32), (0, 0), 1.2)
    return [_seen(photo, 1.6 * (1 - zoom * index), pan * index, width, height) for index in range(count)]


def passing_object(count: int, step: float) -> Frames:
    """Part of another photograph that passes before one that stands still, by `step` pixels a frame."""
    behind = moving_camera(1, 200, 160)[0].astype(np.float32)
    tower = Image.open(photograph("tower.jpg")).convert("RGB").resize((60, 60))
    thing = cv2.GaussianBlur(np.asarray(tower).astype(np.float32), (0, 0), 1.0)
    frames = []
    for index in range(count):
        place = np.array([[1, 0, 20 + step * index], [0, 1, 50]], np.float32)
        shape = cv2.warpAffine(np.ones((60, 60), np.float32), place, (200, 160))[..., None]
        frames.append(_rounded(behind * (1 - shape) + cv2.warpAffine(thing, place, (200, 160)) * shape))
    return frames


def unsteady(
    frames: Sequence[np.ndarray], seed: int, flicker: float = 0.0, drift: Sequence[float] = (0, 0, 0)
) -> Frames:
    """`frames` with each one's light another by `flicker` (a standard deviation, as a share), and their colours going
    `drift` away in Lab by the last one. The first is as it was."""
    random, last = np.random.default_rng(seed), max(1, len(frames) - 1)
    changed = [frames[0]]
    for index, frame in enumerate(frames[1:], start=1):
        lab = cv2.cvtColor(frame.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
        lab = lab * (1 + flicker * random.standard_normal()) + np.array(drift) * index / last
        changed.append(_rounded(cv2.cvtColor(lab.astype(np.float32), cv2.COLOR_LAB2RGB) * 255))
    return changed


def colours(frames: Sequence[np.ndarray]) -> np.ndarray:
    """The mean of each frame in Lab."""
    lab = [cv2.cvtColor(frame.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) for frame in frames]
    return np.array([one.reshape(-1, 3).mean(0) for one in lab])


def detail(frames: Sequence[np.ndarray]) -> float:
    """The variance of the Laplacian, over all frames."""
    return float(np.mean([cv2.Laplacian(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var() for f in frames]))


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """Of two frames, in dB."""
    return float(10 * np.log10(255**2 / np.square(one.astype(float) - other).mean()))


def _seen(photo: np.ndarray, scale: float, shift: float, width: int, height: int) -> np.ndarray:
    place = np.array([[scale, 0, 20 + shift], [0, scale, 20 + 0.35 * shift]], np.float32)
    return _rounded(cv2.warpAffine(photo, place, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP))


def _rounded(frame: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(frame), 0, 255).astype(np.uint8)
