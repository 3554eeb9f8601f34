"""From probabilities of cells to masks with the picture's edges, and how well masks agree with drawn ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

KINDS: dict[str, tuple[str, ...]] = {
    "sky": ("sky", "clouds"),
    "plants": ("plants", "tree"),
    "flower": ("flower",),
    "animal": ("animal", "person"),
    "water": ("water",),
}
PRESENT = 0.02  # least share of a photograph that a region must have to be judged
FOUND = 5.0  # a region counts as found when the map is this many times stronger inside than outside
SHARPENED = 4  # power of the probabilities in `hard`


def shares_of(masks: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """(kinds + 1, h, w) float32 of masks (H, W, kinds) 0..1; the last is what none of them covers."""
    height, width = size
    inside = np.stack([cv2.resize(m, (width, height), interpolation=cv2.INTER_AREA) for m in np.moveaxis(masks, -1, 0)])
    inside = inside / np.maximum(inside.sum(0, keepdims=True), 1)
    return np.concatenate([inside, 1 - inside.sum(0, keepdims=True)]).astype(np.float32)


def refined(probabilities: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """(H, W, classes): probabilities (classes, h, w) at the size of `colour` (H, W, 3) uint8, with its edges."""
    height, width = colour.shape[:2]
    guide = cv2.cvtColor(colour, cv2.COLOR_RGB2LAB).astype(np.float32) / 255
    radius = max(2, min(height, width) // 24)
    large = [cv2.resize(part.astype(np.float32), (width, height)) for part in probabilities]
    parts = [np.mean([guided(part, guide[..., c], radius) for c in range(3)], axis=0) for part in large]
    smooth = np.stack(parts, -1).clip(0, 1)
    return smooth / smooth.sum(-1, keepdims=True).clip(1e-6)


def guided(value: np.ndarray, guide: np.ndarray, radius: int, epsilon: float = 1e-3) -> np.ndarray:
    """The guided filter of He et al.: `value` as a linear function of `guide` in every window."""

    def mean(x: np.ndarray) -> np.ndarray:
        return cv2.blur(x, (2 * radius + 1, 2 * radius + 1))

    slope = (mean(value * guide) - mean(value) * mean(guide)) / (mean(guide**2) - mean(guide) ** 2 + epsilon)
    return mean(slope) * guide + mean(mean(value) - slope * mean(guide))


def hard(probabilities: np.ndarray) -> np.ndarray:
    """(H, W, classes): nearly 0 or 1, soft only where two classes are about as likely."""
    power = probabilities**SHARPENED
    return power / power.sum(-1, keepdims=True).clip(1e-9)


@dataclass(frozen=True)
class Agreement:
    """How a map (0..1) agrees with a drawn mask in one photograph; `share` is what the mask covers of it."""

    share: float
    precision: float
    recall: float
    ratio: float
    both: float
    either: float


def agreement(found: np.ndarray, drawn: np.ndarray) -> Agreement:
    """Both (H, W) 0..1."""
    common = float((found * drawn).sum())
    inside = common / max(float(drawn.sum()), 1)
    outside = float((found * (1 - drawn)).sum()) / max(float((1 - drawn).sum()), 1)
    near, far = found > 0.5, drawn > 0.5
    return Agreement(
        share=float(drawn.mean()),
        precision=common / max(float(found.sum()), 1),
        recall=inside,
        ratio=inside / max(outside, 1e-6),
        both=float((near & far).mean()),
        either=float((near | far).mean()),
    )


def summary(rows: Sequence[Agreement]) -> dict[str, float]:
    """Means over the photographs that show the kind; `iou_of_all` adds the areas up first."""
    seen = [row for row in rows if row.share >= PRESENT]
    if not seen:
        return {"photographs": 0}
    means = {
        "found": np.mean([row.ratio >= FOUND for row in seen]),
        "precision": np.mean([row.precision for row in seen]),
        "recall": np.mean([row.recall for row in seen]),
        "iou": np.mean([row.both / max(row.either, 1e-6) for row in seen]),
        "iou_of_all": sum(row.both for row in rows) / max(sum(row.either for row in rows), 1e-6),
    }
    return {"photographs": len(seen), **{name: round(float(value), 3) for name, value in means.items()}}
