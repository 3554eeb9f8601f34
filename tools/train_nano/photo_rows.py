"""One row of numbers for one clip of a held-out photograph. Lengths are shares of the short side."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from PIL import Image

from i2v.families.nano.fields import CLIP_SECONDS
from i2v.families.nano.view import View
from tools.train_nano import before, labels, measures, photo_measures
from tools.train_nano.clips import Brushed, Maker, Settings, Take, frozen_clip, in_view, waved_clip
from tools.train_nano.questions import BEFORE, BRUSHED, BY_HAND, FOUND, FROZEN, MOVED, SHARE, Question

Row = dict[str, float | int | str | None]
Frame = Callable[[int], np.ndarray]
WHOLE = View(torch.tensor(1.0), torch.zeros(2))
# Lines laid over a photograph that has none of its own: end points as shares of width and height.
DRAWN_LINES = (((0.1, 0.3), (0.9, 0.36)), ((0.62, 0.1), (0.56, 0.9)))
INSET = 0.03  # of a line's picture that counts as its border
LEAST_LINE = 0.25  # of width and height together; what is seen of a shorter one tells nothing


@dataclass(frozen=True)
class Photo:
    """A held-out photograph (H, W, 3) uint8 at the evaluation's size, and its labels."""

    label: labels.Photograph
    pixels: np.ndarray

    def region(self, motion: str) -> np.ndarray:
        """What this motion moves, (H, W) float 0..1."""
        return labels.mask(self.label, MOVED[motion], self.pixels)


@dataclass(frozen=True)
class Made:
    """A clip (F, H, W, 3) uint8, with the part of the picture that it shows, what it found alive, and its seconds."""

    frames: np.ndarray
    view: View
    alive: np.ndarray | None
    seconds: float


class Studio:
    """Makes and measures clips."""

    def __init__(self, maker: Maker, earlier: before.Before | None, settings: Settings) -> None:
        self.maker, self.earlier, self.settings = maker, earlier, settings

    def row(self, question: Question, photo: Photo) -> tuple[Row, Made] | None:
        """The numbers of a question and its clip; None where the photograph has too little or too much that moves."""
        began = time.monotonic()
        region = photo.region(question.motion) if question.part == "living" else None
        if region is not None and not SHARE[0] < region.mean() < SHARE[1]:
            return None
        made, take = self._made(question, photo, region)
        numbers = self._numbers(question, photo, region, made, take)
        row = {
            "part": question.part, "scene": question.scene, "motion": question.motion, "made": question.made,
            "seed": question.seed, "prompt": question.prompt,
        }  # fmt: skip
        return row | numbers | {"took": round(time.monotonic() - began, 1)}, made

    def _made(self, question: Question, photo: Photo, region: np.ndarray | None) -> tuple[Made, Take | None]:
        picture, seconds, frames = photo.pixels, self.settings.seconds, self.settings.frames
        if question.made == FROZEN:
            return Made(frozen_clip(picture.astype(np.float32) / 255, frames), WHOLE, None, seconds), None
        if question.made == BY_HAND:
            return Made(waved_clip(picture.astype(np.float32) / 255, region, frames), WHOLE, region, seconds), None
        if question.made == BEFORE:
            clip = self.earlier.clip(picture, question.prompt, question.seed)
            return Made(clip, WHOLE, None, CLIP_SECONDS), None  # as far as it went, in a third of the time
        brushed = Brushed(region) if question.made == BRUSHED else None
        take = self.maker.take(Image.fromarray(picture), question.prompt, question.seed, self.settings, brushed)
        return Made(take.clip(), take.refined.view, take.alive, seconds), take

    def _numbers(
        self, question: Question, photo: Photo, region: np.ndarray | None, made: Made, take: Take | None
    ) -> Row:
        frames = made.frames
        looks = [frames[0], *photo_measures.looked_at(frames)]
        sharpest = measures.sharpness(photo.pixels)
        row: Row = {
            "view": float(made.view.size),
            "first_db": measures.psnr(frames[0], _seen(photo.pixels, made.view)),
            "sharpness": min(measures.sharpness(frame) for frame in looks) / sharpest,
            "bend": _bend(frames, photo.label.lines, made.view),
        }
        row |= {"camera_" + name: value for name, value in vars(_camera(made)).items()}
        if question.part == "light":
            levels = frames.astype(np.float32).mean((1, 2, 3))
            return row | {"light": photo_measures.light_evenness(frames), "change": float(levels[-1] / levels[0] - 1)}
        new = photo_measures.uncovered(frames)
        row |= {"uncovered": new.share, "contrast": new.contrast}
        if question.part == "camera":
            return row | {"drawn_bend": _drawn_bend(photo.pixels, made, take)}
        if _camera(made).follows("still"):  # a camera that moves on, where nothing was found, is not meant to come back
            row["loop"] = photo_measures.loop_difference(frames)
        shown = in_view(region, made.view)
        try:
            row |= vars(moved := photo_measures.region_motion(frames, shown)) | {"ratio": moved.ratio}
        except ValueError:
            row["ratio"] = None
        if question.made == FOUND:
            alive = cv2.resize(made.alive, region.shape[::-1], interpolation=cv2.INTER_LINEAR)
            both = float(np.minimum(alive, region).sum())
            row |= {"precision": both / max(float(alive.sum()), 1e-6), "recall": both / float(region.sum())}
        return row


def _camera(made: Made) -> measures.CameraReading:
    middle = round(len(made.frames) * measures.READ_AT)
    return measures.camera(made.frames[0], made.frames[middle], made.seconds)


def _seen(picture: np.ndarray, view: View) -> np.ndarray:
    """The part of the picture (H, W, 3) uint8 that the first frame shows."""
    if float(view.size) == 1.0:
        return picture
    channels = [in_view(picture[..., channel], view, cv2.INTER_CUBIC) for channel in range(3)]
    return np.stack(channels, -1).round().clip(0, 255).astype(np.uint8)


def _in_view(line: tuple[labels.Point, labels.Point], view: View, shape: tuple[int, int]) -> tuple | None:
    """The line as the first frame shows it, shortened to what is seen; None where that is little."""
    short = min(shape)
    middle = view.middle.numpy() * short / np.float32([shape[1], shape[0]])
    ends = (np.float32(line) - 0.5 - middle) / float(view.size) + 0.5
    share = np.linspace(0, 1, 101)[:, None]
    points = ends[0] + (ends[1] - ends[0]) * share
    points = points[((points > INSET) & (points < 1 - INSET)).all(1)]
    if len(points) < 2 or np.abs(points[-1] - points[0]).sum() < LEAST_LINE:
        return None
    return tuple(map(tuple, (points[0], points[-1])))


def _bend(frames: np.ndarray, lines: tuple, view: View) -> float | None:
    """How far the worst of the photograph's own straight lines bends, pixels of 512; None where it has none."""
    shown = [_in_view(line, view, frames.shape[1:3]) for line in lines]
    bends = [photo_measures.line_bend(frames, line) for line in shown if line is not None]
    return max(bends, default=None)


def _drawn_bend(picture: np.ndarray, made: Made, take: Take | None) -> float | None:
    """The same of lines drawn over the picture, moved as the picture was; only of what keeps its motion."""
    if take is None:
        return None
    lined = picture.copy()
    height, width = picture.shape[:2]
    for line in DRAWN_LINES:
        start, end = (tuple(int(share * size) for share, size in zip(p, (width, height), strict=True)) for p in line)
        cv2.line(lined, start, end, (255, 255, 255), 5, cv2.LINE_AA)
        cv2.line(lined, start, end, (0, 0, 0), 2, cv2.LINE_AA)
    pixels = torch.from_numpy(lined.astype(np.float32) / 255).permute(2, 0, 1)[None]
    count = take.settings.frames
    chosen = [0, *np.linspace(0, count - 1, photo_measures.LOOKS + 1).round().astype(int)[1:]]
    return _bend(np.stack([take.frame(int(index), pixels) for index in chosen]), DRAWN_LINES, made.view)
