"""Contact sheets: of each clip the first and the middle frame, where it changed most, and what was drawn and found."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw

WIDTH = 300  # pixels of each picture
LABEL = 14  # pixels of the line above
ROWS = 12  # clips on a page
LOUDER = 3  # times a difference is shown


def strip(frames: np.ndarray, drawn: np.ndarray | None, alive: np.ndarray | None, label: str) -> np.ndarray:
    """(h, 5 * WIDTH, 3) uint8: first frame, middle, largest difference from the first, drawn region, found region."""
    change = np.max([cv2.absdiff(frame, frames[0]).max(-1) for frame in frames], axis=0).astype(np.float32)
    pictures = [frames[0], frames[len(frames) // 2], grey(change * LOUDER / 255), grey(drawn), grey(alive)]
    height = round(WIDTH * frames.shape[1] / frames.shape[2])
    shown = [
        cv2.resize(
            picture if picture is not None else np.zeros_like(frames[0]), (WIDTH, height), interpolation=cv2.INTER_AREA
        )
        for picture in pictures
    ]
    head = Image.new("RGB", (5 * WIDTH, LABEL), "white")
    ImageDraw.Draw(head).text((3, 1), label.encode("ascii", "replace").decode(), fill="black")
    return np.vstack([np.asarray(head), np.hstack(shown)])


def grey(mask: np.ndarray | None) -> np.ndarray | None:
    """(H, W) 0..1 as (H, W, 3) uint8."""
    return None if mask is None else np.repeat((mask.clip(0, 1) * 255).astype(np.uint8)[..., None], 3, -1)


def pages(folder: Path, name: str) -> list[Path]:
    """The strips `folder/name-*.png` in the order of their names, ROWS to a page: `folder/page-name-1.png` and on."""
    strips = [np.asarray(Image.open(path)) for path in sorted(folder.glob(f"{name}-*.png"))]
    written = []
    for first in range(0, len(strips), ROWS):
        path = folder / f"page-{name}-{first // ROWS + 1}.png"
        Image.fromarray(np.vstack(strips[first : first + ROWS])).save(path)
        written.append(path)
    return written
