"""The preview grows while frames are decoded, and keeps to its share of the time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageSequence

from i2v.engine import preview
from i2v.engine.preview import (
    MIN_INTERVAL_SECONDS,
    MOST_FRAMES,
    PREVIEW_SIDE,
    TIME_SHARE,
    GrowingPreview,
    PreviewWriter,
)
from tests.video_support import moving_frames


class Clock:
    """Time that passes only when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def pictures(path: Path) -> list[np.ndarray]:
    with Image.open(path) as picture:
        return [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(picture)]


def test_it_shows_the_frames_so_far(tmp_path: Path) -> None:
    frames, clock = moving_frames(6, 512, 320), Clock()
    growing = GrowingPreview(tmp_path, 8, len(frames), clock)
    for count, frame in enumerate(frames, start=1):
        clock.now += 60
        assert growing.add(frame) == "preview.webp"
        assert os.listdir(tmp_path) == ["preview.webp"]
        shown = pictures(tmp_path / "preview.webp")
        assert len(shown) == count
        for picture, original in zip(shown, frames, strict=False):
            assert picture.shape == (PREVIEW_SIDE * 320 // 512, PREVIEW_SIDE, 3)
            small = np.asarray(Image.fromarray(original).resize((256, 160), Image.Resampling.BOX), dtype=float)
            assert 10 * np.log10(255**2 / np.mean((small - picture) ** 2)) > 28


def test_it_keeps_small_frames_only(tmp_path: Path) -> None:
    growing = GrowingPreview(tmp_path, 8, 100)
    for frame in moving_frames(4, 640, 1024):
        growing.add(frame)
    assert [picture.size for picture in growing._pictures] == [(160, 256)] * 4


@given(
    frame_seconds=st.lists(st.floats(0, 30), min_size=1, max_size=80),
    small_seconds=st.floats(0, 0.02),
    save_seconds=st.floats(0, 0.0019),
)
def test_it_keeps_to_its_share_of_the_time(
    tmp_path_factory: pytest.TempPathFactory,
    frame_seconds: list[float],
    small_seconds: float,
    save_seconds: float,
) -> None:
    """On a machine that takes any time to decode, to make small, and, for each frame, to write."""
    clock, spent, written = Clock(), [0.0], []
    began = clock.now

    def small(frame: np.ndarray) -> Image.Image:
        clock.now += small_seconds
        spent[0] += small_seconds
        return Image.new("RGB", (1, 1))

    def save(path: Path, pictures: Sequence[Image.Image], fps: int) -> None:
        clock.now += save_seconds * len(pictures)
        spent[0] += save_seconds * len(pictures)
        written.append((clock.now, len(pictures)))
        if len(pictures) < len(frame_seconds):
            assert spent[0] <= TIME_SHARE * (clock.now - began) + 1e-9

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preview, "_small", small)
        patch.setattr(preview, "_save", save)
        growing = GrowingPreview(tmp_path_factory.getbasetemp(), 8, len(frame_seconds), clock)
        named = 0
        for seconds in frame_seconds:
            clock.now += seconds
            named += growing.add(np.empty(0, np.uint8)) is not None
    assert named == len(written)
    before_last = [when for when, count in written if count < len(frame_seconds)]
    assert all(b - a >= MIN_INTERVAL_SECONDS for a, b in pairwise(before_last))
    assert not written or written[-1][1] == len(frame_seconds), "once shown at all, the whole clip stays"


def test_enough_time_is_used(tmp_path: Path) -> None:
    """With seconds for each frame every one is shown; within half a second altogether none is, nor the old one lost."""
    (tmp_path / "preview.webp").write_bytes(b"predicted")
    clock = Clock()
    growing = GrowingPreview(tmp_path, 8, 5, clock)
    for frame in moving_frames(5):
        clock.now += 0.05
        assert growing.add(frame) is None
    assert (tmp_path / "preview.webp").read_bytes() == b"predicted"
    assert os.listdir(tmp_path) == ["preview.webp"]


@pytest.mark.parametrize(
    ("frames", "shown", "milliseconds"), [(16, 16, 62), (64, 64, 62), (65, 33, 125), (480, 60, 500)]
)
def test_a_long_clip_is_foreshown_in_few_frames_at_its_own_pace(tmp_path, frames, shown, milliseconds):
    clip = torch.randint(256, (frames, 8, 8, 3), dtype=torch.uint8)
    with Image.open(tmp_path / PreviewWriter(tmp_path, 16).write(clip)) as picture:
        durations = [frame.load() and frame.info["duration"] for frame in ImageSequence.Iterator(picture)]
    assert len(durations) == shown <= MOST_FRAMES
    assert set(durations) == {milliseconds}
