"""Single frames of a video: the right one, in the right colours, whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from i2v.messages import UserError
from i2v.video.stills import SMALL_PIXELS, first_frame, last_frame, small_frame, small_picture
from tests.video_support import moving_frames, write_video


def difference(picture: Path, frame: np.ndarray) -> float:
    """Mean absolute difference, of 255."""
    with Image.open(picture) as opened:
        return float(np.abs(np.asarray(opened.convert("RGB"), float) - frame).mean())


@pytest.mark.parametrize("count", [1, 2, 17])
def test_the_first_and_the_last_frame_are_those_and_no_others(tmp_path: Path, count: int) -> None:
    frames = [np.roll(frame, 5 * index, axis=1) for index, frame in enumerate(moving_frames(count))]
    video = write_video(tmp_path / "v.mp4", frames)
    for write, index in ((first_frame, 0), (last_frame, count - 1)):
        write(video, tmp_path / "still.png")
        errors = [difference(tmp_path / "still.png", frame) for frame in frames]
        assert int(np.argmin(errors)) == index
        assert errors[index] < 6  # what H.264 takes away


def test_flat_colours_come_back_as_they_went_in(tmp_path: Path) -> None:
    """BT.601 in the place of BT.709 would be off by more than 10 here."""
    for colour in ((200, 30, 40), (20, 160, 60), (30, 60, 190)):
        video = write_video(tmp_path / "v.mp4", [np.full((64, 64, 3), colour, np.uint8)] * 3)
        last_frame(video, tmp_path / "still.png")
        assert difference(tmp_path / "still.png", np.full((64, 64, 3), colour)) < 3


def test_small_pictures_are_small_and_keep_their_shape(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.mp4", moving_frames(2, 640, 320))
    small_frame(video, tmp_path / "poster.webp")
    Image.linear_gradient("L").resize((1200, 2400)).save(tmp_path / "input.png")
    small_picture(tmp_path / "input.png", tmp_path / "input.webp")
    with Image.open(tmp_path / "poster.webp") as poster, Image.open(tmp_path / "input.webp") as picture:
        assert (poster.format, poster.size) == ("WEBP", (SMALL_PIXELS, SMALL_PIXELS // 2))
        assert (picture.format, picture.size) == ("WEBP", (SMALL_PIXELS // 2, SMALL_PIXELS))


def test_what_is_no_video_or_too_large_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    words = tmp_path / "v.mp4"
    words.write_text("<script>")
    with pytest.raises(UserError) as refused:
        first_frame(words, tmp_path / "still.png")
    assert refused.value.message.id == "video.not_a_video"
    video = write_video(tmp_path / "large.mp4", moving_frames(1, 640, 320))
    with pytest.raises(UserError) as refused:
        first_frame(video, tmp_path / "still.png", max_megapixels=0.2)
    assert refused.value.message.id == "video.too_large"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["large.mp4", "v.mp4"]


def test_a_full_disk_is_told_and_leaves_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = write_video(tmp_path / "v.mp4", moving_frames(2))

    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError) as refused:
        last_frame(video, tmp_path / "still.png")
    assert refused.value.message.id == "video.disk_full"
    assert [path.name for path in tmp_path.iterdir()] == ["v.mp4"]
