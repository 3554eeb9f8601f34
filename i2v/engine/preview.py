"""The clip while it is being made, as a small animated WebP: first predicted, then as far as it is decoded."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image
from torch import Tensor

from i2v.finishing.stage import Frame
from i2v.whole_file import whole_file

PREVIEW_NAME = "preview.webp"
PREVIEW_SIDE = 256  # pixels, the longer side
TIME_SHARE = 0.01  # of the run, at most, goes into previews
MIN_INTERVAL_SECONDS = 0.5
MOST_FRAMES = 64  # of a predicted clip: a person sees how it will be, and hundreds take seconds to write
_FIRST_GUESS_SECONDS = 0.002  # to write one small frame, before any was: one core of a busy machine took 0.0016


class PreviewWriter:
    """Writes `preview.webp` in the job folder, seldom enough to cost nothing that anybody notices."""

    def __init__(self, folder: Path, fps: int) -> None:
        self.path = folder / PREVIEW_NAME
        self._fps = fps
        self._next = 0.0

    def due(self) -> bool:
        """Whether enough time has passed since the last preview."""
        return time.perf_counter() >= self._next

    def write(self, frames: Tensor) -> str:
        """Write frames (F, h, w, 3) uint8; returns the file's name. The old preview stays until the new is whole. Of a
        long clip every few frames are shown, for as long."""
        began = time.perf_counter()
        every = -(-len(frames) // MOST_FRAMES)
        _save(self.path, [_small(frame) for frame in frames.numpy()[::every]], self._fps / every)
        ended = time.perf_counter()
        self._next = ended + max(MIN_INTERVAL_SECONDS, (ended - began) / TIME_SHARE)
        return self.path.name


class GrowingPreview:
    """Keeps the decoded frames small, in memory, and writes them as `preview.webp` while they come.

    A WebP is written from its first frame on each time, so the file grows the more seldom the longer it is: all of
    it, making the frames small included, keeps to TIME_SHARE of the time since the first frame was asked for, as far
    as the last writing tells what the next one takes.
    Only the last writing does not wait: once frames were shown at all, what stays is the whole clip.
    """

    def __init__(self, folder: Path, fps: int, num_frames: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self.path = folder / PREVIEW_NAME
        self._fps = fps
        self._num_frames = num_frames
        self._clock = clock
        self._pictures: list[Image.Image] = []
        self._began = self._last = clock()
        self._spent_seconds = 0.0
        self._seconds_per_frame = _FIRST_GUESS_SECONDS
        self._shown = 0

    def add(self, frame: Frame) -> str | None:
        """Take the next frame, (H, W, 3) uint8; the file's name when it was written anew, else None."""
        began = self._clock()
        self._pictures.append(_small(frame))
        self._spent_seconds += self._clock() - began
        if not self._due():
            return None
        began = self._clock()
        _save(self.path, self._pictures, self._fps)
        self._last = self._clock()
        self._shown = len(self._pictures)
        self._seconds_per_frame = (self._last - began) / self._shown
        self._spent_seconds += self._last - began
        return self.path.name

    def _due(self) -> bool:
        count, now = len(self._pictures), self._clock()
        if count == self._num_frames:
            return self._shown > 0
        spent_then = self._spent_seconds + self._seconds_per_frame * count
        return now - self._last >= MIN_INTERVAL_SECONDS and spent_then <= TIME_SHARE * (now - self._began)


def _small(frame: Frame) -> Image.Image:
    """`frame` (H, W, 3) uint8 with PREVIEW_SIDE pixels on its longer side."""
    height, width = frame.shape[:2]
    scale = PREVIEW_SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    # Averages over whole pixels first, as far as that goes: a tenth of the time, and at this size no different.
    return Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC, reducing_gap=1.0)


def _save(path: Path, pictures: Sequence[Image.Image], fps: float) -> None:
    """Write an animation; an older one at `path` stays until this is whole. Raises OSError, and leaves no part."""
    options = {"save_all": True, "duration": int(1000 / fps), "loop": 0, "quality": 70, "method": 0}
    with whole_file(path, durable=False) as part:  # the next one comes soon, and nobody waits for a disk
        pictures[0].save(part, "WEBP", append_images=pictures[1:], **options)
