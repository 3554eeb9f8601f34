"""One click selects what belongs together in a photograph: water, a sky, a flower.

A flood from the click, at the tolerance at which it grows least when that is raised, gives a first guess. GrabCut
(Rother, Kolmogorov, Blake 2004) then learns the colours inside and outside of it and draws the border where the picture
has one. All of it at the size that a region is kept in: a fraction of a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from PIL.Image import Resampling

from i2v.video.region import LONG_SIDE

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STEPS = (3, 6, 12)  # by which neighbours may differ, in levels of 255
_DISTANCES = (6, 8, 11, 14, 18, 23, 29, 36, 45, 56, 70)  # by which the click and a place may differ
_SMALLEST, _LARGEST = 0.006, 0.8  # shares of the photograph that a first guess may have
_DISC = 0.05  # of the longer side: the radius of the first guess where no flood has such a share
_BAND = 0.04  # of the longer side: how far the border may move from the first guess
_ROUNDS = 3
_LEFT = 0.4  # of the first guess; where less is left the colours did not tell inside from outside


def select(photograph: Image.Image, x: float, y: float) -> Image.Image:
    """What is at the place (x, y), each 0 to 1 of the photograph's sides: a grey image, white inside, its border soft.

    The place itself always belongs to it. Raises ValueError for a place outside of the photograph."""
    import cv2

    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise ValueError(f"no place in a photograph: {x}, {y}")
    small = _small(photograph)
    height, width = small.shape[:2]
    seed = min(int(x * width), width - 1), min(int(y * height), height - 1)
    guess = _guess(cv2, small, seed)
    return Image.fromarray(_feathered(cv2, _cut(cv2, small, guess, seed)))


def _small(photograph: Image.Image) -> NDArray[np.uint8]:
    scale = min(1.0, LONG_SIDE / max(photograph.size))
    size = [max(1, round(side * scale)) for side in photograph.size]
    return np.asarray(photograph.convert("RGB").resize(size, Resampling.BOX))


def _guess(cv2: Any, rgb: NDArray[np.uint8], seed: tuple[int, int]) -> NDArray[np.uint8]:
    """What a flood from `seed` covers (H, W), 1 inside, at the tolerance at which it is most stable; a disc where no
    flood is of use."""
    lab = cv2.cvtColor(cv2.pyrMeanShiftFiltering(rgb, 5, 14), cv2.COLOR_RGB2LAB)
    best, least = None, np.inf
    for step in _STEPS:
        floods = [_flood(cv2, lab, seed, step, distance) for distance in _DISTANCES]
        shares = [float(flood.mean()) for flood in floods]
        for flood, share, next_share in zip(floods, shares, shares[1:], strict=False):
            # Growth counts against the size, so that a petal does not win over its flower by a hair.
            score = next_share / share - 1 + 0.02 / np.sqrt(share)
            if _SMALLEST <= share <= _LARGEST and score < least:
                best, least = flood, score
    if best is None:
        best = np.zeros(lab.shape[:2], np.uint8)
        cv2.circle(best, seed, round(max(best.shape) * _DISC), 1, -1)
    return best


def _flood(cv2: Any, lab: NDArray[np.uint8], seed: tuple[int, int], step: int, distance: int) -> NDArray[np.uint8]:
    """What is connected with `seed` by neighbours that differ by up to `step`, and differs from it by up to
    `distance`."""
    height, width = lab.shape[:2]
    mask = np.zeros((height + 2, width + 2), np.uint8)
    apart = np.abs(lab.astype(np.int16) - lab[seed[1], seed[0]])
    apart[..., 0] //= 2  # light and shade change the lightness first
    mask[1:-1, 1:-1] = apart.max(-1) > distance
    cv2.floodFill(lab, mask, seed, 0, (step,) * 3, (step,) * 3, 8 | cv2.FLOODFILL_MASK_ONLY | (2 << 8))
    flooded = (mask[1:-1, 1:-1] == 2).astype(np.uint8)
    return cv2.morphologyEx(flooded, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))


def _cut(cv2: Any, rgb: NDArray[np.uint8], guess: NDArray[np.uint8], seed: tuple[int, int]) -> NDArray[np.uint8]:
    """`guess` with its border where the picture has one: the part that `seed` is in, 1 inside."""
    reach = max(3, round(max(guess.shape) * _BAND)) | 1
    near = cv2.dilate(guess, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1,) * 2))
    mask = np.where(guess, cv2.GC_PR_FGD, np.where(near, cv2.GC_PR_BGD, cv2.GC_BGD)).astype(np.uint8)
    cv2.circle(mask, seed, 2, cv2.GC_FGD, -1)
    if (mask == cv2.GC_BGD).any():
        cv2.setRNGSeed(0)  # the same click gives the same region
        cv2.grabCut(
            np.ascontiguousarray(rgb[..., ::-1]), mask, None, np.zeros((1, 65)), np.zeros((1, 65)), _ROUNDS,
            cv2.GC_INIT_WITH_MASK,
        )  # fmt: skip
    inside = np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    inside = cv2.morphologyEx(inside, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    cv2.circle(inside, seed, 2, 1, -1)
    _, parts = cv2.connectedComponents(inside)
    kept = (parts == parts[seed[1], seed[0]]).astype(np.uint8)
    return kept if kept.sum() >= _LEFT * guess.sum() else guess


def _feathered(cv2: Any, inside: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`inside` with small holes closed and a border a few pixels soft."""
    closed = cv2.morphologyEx(inside, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5)))
    return cv2.GaussianBlur(closed * np.uint8(255), (0, 0), 1.2)
