"""Show the regions drawn by hand over their photographs, to look at them and correct what is wrong.

    python -m tools.train_nano.overlays --data /path/of/prepare --out /path/outside/the/repository [WORD ...]

Writes a PNG for each labelled photograph whose package or path holds one of the words (all without words): every kind
in its colour, lines in red, and a grid in tenths of width and height to read coordinates from.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from tools.train_nano import labels
from tools.train_nano.prepare import labelled, small_enough

SIDE = 900  # long side of a picture, pixels
STRENGTH = 0.45
COLOURS = {
    "sky": (80, 160, 255), "clouds": (255, 255, 255), "water": (0, 60, 255), "plants": (60, 220, 0),
    "tree": (0, 120, 40), "flower": (255, 0, 200), "hair": (255, 150, 60), "cloth": (255, 80, 80),
    "fire": (255, 60, 0), "animal": (255, 160, 0), "person": (255, 220, 0), "rigid": (120, 60, 20),
}  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder that prepare filled")
    parser.add_argument("--out", type=Path, required=True, help="where the pictures go")
    parser.add_argument("words", nargs="*", help="only photographs whose package or path holds one of these")
    asked = parser.parse_args(argv)
    asked.out.mkdir(parents=True, exist_ok=True)
    wanted = [p for p in labels.load() if not asked.words or any(w in f"{p.package}/{p.file}" for w in asked.words)]
    for photograph, path in labelled(wanted, asked.data / "packages"):
        picture = small_enough(path).convert("RGB")
        picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        drawn = Image.fromarray(overlay(photograph, np.asarray(picture)))
        drawn.save(asked.out / f"{photograph.split}-{photograph.scene}-{photograph.sha256[:8]}.png")
    return 0


def overlay(photograph: labels.Photograph, picture: np.ndarray) -> np.ndarray:
    """The picture (H, W, 3) uint8 with its regions tinted, its lines and the grid."""
    height, width = picture.shape[:2]
    tinted = picture.astype(np.float32)
    for kind in photograph.kinds:
        share = labels.mask(photograph, {kind}, picture)[..., None] * STRENGTH
        tinted = tinted * (1 - share) + share * np.float32(COLOURS[kind])
    shown = np.ascontiguousarray(np.rint(tinted).astype(np.uint8))
    for tenth in range(1, 10):
        x, y = round(width * tenth / 10), round(height * tenth / 10)
        shown[:, x] = shown[:, x] // 2 + np.uint8([127, 127, 0])
        shown[y] = shown[y] // 2 + np.uint8([127, 127, 0])
    for line in photograph.lines:
        start, end = ((round(x * width), round(y * height)) for x, y in line)
        cv2.line(shown, start, end, (255, 0, 0), 2)
    return shown


if __name__ == "__main__":
    raise SystemExit(main())
