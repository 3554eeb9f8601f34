"""The predicted clip while it is being made, as a small animated WebP."""

from __future__ import annotations

import time
from pathlib import Path

from PIL import Image
from torch import Tensor

PREVIEW_SIDE = 256  # pixels, the longer side
TIME_SHARE = 0.01  # of the run, at most, goes into previews
MIN_INTERVAL_SECONDS = 0.5


class PreviewWriter:
    """Writes `preview.webp` in the job folder, seldom enough to cost nothing that anybody notices."""

    def __init__(self, folder: Path, fps: int) -> None:
        self.path = folder / "preview.webp"
        self._fps = fps
        self._next = 0.0

    def due(self) -> bool:
        """Whether enough time has passed since the last preview."""
        return time.perf_counter() >= self._next

    def write(self, frames: Tensor) -> str:
        """Write frames (F, h, w, 3) uint8; returns the file's name. The old preview stays until the new is whole."""
        began = time.perf_counter()
        height, width = frames.shape[1:3]
        scale = PREVIEW_SIDE / max(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        pictures = [Image.fromarray(frame.numpy()).resize(size, Image.Resampling.BICUBIC) for frame in frames]
        partial = self.path.with_suffix(".partial.webp")
        pictures[0].save(
            partial, save_all=True, append_images=pictures[1:], duration=1000 // self._fps, loop=0, quality=70, method=0
        )
        partial.replace(self.path)
        ended = time.perf_counter()
        self._next = ended + max(MIN_INTERVAL_SECONDS, (ended - began) / TIME_SHARE)
        return self.path.name
