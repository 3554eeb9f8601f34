"""A clip's sound: in its file as AAC, as long as its frames, through every way that a video takes afterwards."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from i2v.messages import UserError
from i2v.video import ffmpeg
from i2v.video.join import put_before
from i2v.video.metadata import probe_video, read_metadata
from i2v.video.reencode import reencode
from i2v.video.rescue import growing_path, partial_path, rescue_video
from i2v.video.sound import Sound, sound_beside
from i2v.video.writer import VideoWriter
from tests.video_support import RATE, heard, moving_frames, small_disk, write_video

FPS = 24
AAC_FRAME = 1024  # samples that the coder takes at once


def tone(hertz: float, seconds: float, rate: int = RATE, channels: int = 2) -> Sound:
    time = np.arange(round(seconds * rate)) / rate
    return Sound(np.repeat(0.5 * np.sin(2 * np.pi * hertz * time)[None], channels, 0).astype(np.float32), rate)


def with_sound(
    path: Path, sound: Sound, frames: int = 24, fps: float = FPS, *, wrong: bool = False, **metadata: object
) -> Path:
    """`wrong`: behind these frames comes one that is refused."""
    with VideoWriter(path, width=96, height=64, fps=fps, metadata=metadata) as video:
        video.hear(sound)
        for frame in moving_frames(frames):
            video.write(frame)
        if wrong:
            video.write(frame[1:])
    return path


def pitch(samples: np.ndarray, rate: int = RATE) -> float:
    """The strongest frequency, in hertz."""
    spectrum = np.abs(np.fft.rfft(samples[0] * np.hanning(samples.shape[1])))
    return float(np.argmax(spectrum) * rate / samples.shape[1])


def pitches(path: Path, borders: Sequence[float]) -> list[float]:
    """Those between each two moments, in seconds, with 50 ms left out at each end."""
    samples = heard(path)
    parts = [samples[:, int((a + 0.05) * RATE) : int((b - 0.05) * RATE)] for a, b in pairwise(borders)]
    return [pitch(part) if np.abs(part).max() > 0.05 else 0.0 for part in parts]


def test_a_video_has_the_sound_that_was_heard(tmp_path):
    path = with_sound(tmp_path / "v.mp4", tone(440, 1), prompt="waves")
    info = probe_video(path)
    assert (info.frames, info.sound_hz) == (24, RATE)
    samples = heard(path)
    assert pitch(samples) == pytest.approx(440, abs=2)
    assert np.abs(samples).max() == pytest.approx(0.5, abs=0.05)
    assert read_metadata(path) == {"prompt": "waves"}
    assert os.listdir(tmp_path) == ["v.mp4"]


def test_a_disk_without_room_for_the_last_copy_makes_no_silent_video(tmp_path):
    """It is told; the frames are kept, and what was there before stays."""
    whole = with_sound(tmp_path / "whole.mp4", tone(440, 1), 60)
    beside = RATE * 2 * 2  # bytes of a second before it is coded
    with small_disk(tmp_path / "disk", round((1.5 * whole.stat().st_size + beside) / 4096) * 4) as disk:
        with pytest.raises(UserError) as caught:
            with_sound(disk / "v.mp4", tone(440, 1), 60)
        assert caught.value.message.id == "video.disk_full"
        assert not (disk / "v.mp4").exists()


def test_a_silent_clip_has_no_track(tmp_path):
    path = write_video(tmp_path / "v.mp4", moving_frames(3), prompt="    Stream #0:1: Audio: aac, 24000 Hz")
    assert probe_video(path).sound_hz is None
    assert "Audio:" not in ffmpeg.run("-i", os.fspath(path)).stderr.replace("Audio: aac, 24000 Hz", "")


@settings(max_examples=6, deadline=None)
@given(
    frames=some.integers(1, 30), seconds=some.floats(0.01, 2.0), rate=some.sampled_from([16000, 24000, 48000]),
    fps=some.sampled_from([8, 16, 24, 30]), channels=some.sampled_from([1, 2]),
)  # fmt: skip
def test_sound_is_as_long_as_the_frames(tmp_path_factory, frames, seconds, rate, fps, channels):
    path = tmp_path_factory.mktemp("long") / "v.mp4"
    with_sound(path, tone(300, seconds, rate, channels), frames, fps)
    info = probe_video(path)
    assert (info.frames, info.sound_hz) == (frames, rate)
    assert abs(heard(path, rate).shape[1] / rate - frames / fps) <= max(1 / fps, AAC_FRAME / rate)


def test_left_and_right_stay_where_they_are(tmp_path):
    samples = np.concatenate([tone(440, 1).samples[:1], 0 * tone(440, 1).samples[:1]])
    left, right = heard(with_sound(tmp_path / "v.mp4", Sound(samples, RATE)))
    assert np.abs(left).max() > 0.4
    assert np.abs(right).max() < 0.02


@pytest.mark.parametrize("samples", [np.zeros(10), np.zeros((0, 10)), np.zeros((1, 2, 3))])
def test_what_is_no_sound_is_refused(tmp_path, samples):
    with pytest.raises(ValueError, match="channels"):
        with_sound(tmp_path / "v.mp4", Sound(samples, RATE))


# --- what a run that ended early leaves ---


def test_a_part_has_its_part_of_the_sound(tmp_path):
    path = tmp_path / "v.mp4"
    with pytest.raises(ValueError, match="a frame must be"):
        with_sound(path, tone(440, 10), 12, wrong=True)
    assert os.listdir(tmp_path) == [partial_path(path).name]
    assert heard(partial_path(path)).shape[1] / RATE == pytest.approx(0.5, abs=1 / FPS)


def test_a_killed_run_leaves_it_too(tmp_path):
    path = tmp_path / "v.mp4"
    growing = growing_path(path)
    with VideoWriter(path, width=96, height=64, fps=FPS, metadata={}) as video:
        video.hear(tone(440, 10))
        for frame in moving_frames(12):
            video.write(frame)
        video._end_encoder(None)
        left = growing.read_bytes(), sound_beside(growing).read_bytes()
        assert probe_video(growing).sound_hz is None  # it plays, and its fragments are frames
    path.unlink()
    growing.write_bytes(left[0][:-50])  # in the middle of a frame
    sound_beside(growing).write_bytes(left[1])
    frames = rescue_video(path)
    assert frames == 11
    assert os.listdir(tmp_path) == [partial_path(path).name]
    assert heard(partial_path(path)).shape[1] / RATE == pytest.approx(11 / FPS, abs=1 / FPS)
    assert pitch(heard(partial_path(path))) == pytest.approx(440, abs=5)


def test_another_try_does_not_have_the_sound_of_the_one_before(tmp_path):
    path = tmp_path / "v.mp4"
    sound_beside(growing_path(path)).write_bytes(b"of a run that was killed")
    write_video(path, moving_frames(3))
    assert probe_video(path).sound_hz is None


# --- exports and what goes before ---


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """Of two seconds; the second has another pitch."""
    samples = np.concatenate([np.asarray(tone(hertz, 1).samples) for hertz in (440, 880)], axis=1)
    return with_sound(tmp_path_factory.mktemp("source") / "video.mp4", Sound(samples, RATE), 48, prompt="waves")


@pytest.mark.parametrize("format", ["mp4", "webm"])
@pytest.mark.parametrize("fps", [FPS, 8, 50])
def test_exports_keep_it_as_fast_as_the_frames(source, tmp_path, format, fps):
    target = tmp_path / f"v.{format}"
    reencode(source, target, fps=fps, format=format)
    samples = heard(target)
    assert samples.shape[1] / RATE == pytest.approx(48 / fps, abs=2 / FPS)
    seconds = 48 / fps
    assert pitches(target, [0, seconds / 2, seconds]) == pytest.approx([440, 880], abs=15)


@pytest.mark.parametrize("format", ["gif", "webp"])
def test_pictures_that_move_are_silent(source, tmp_path, format):
    target = tmp_path / f"v.{format}"
    reencode(source, target, fps=8, format=format)
    assert "Audio:" not in ffmpeg.run("-i", os.fspath(target)).stderr


@pytest.mark.parametrize(("before", "after"), [(440, 880), (440, None), (None, 880)])
def test_what_goes_before_is_heard_before(tmp_path, before, after):
    earlier, video = (
        write_video(path, moving_frames(24), FPS)
        if hertz is None
        else with_sound(path, tone(hertz, 3, 48000 if hertz == 440 else RATE), 24)
        for path, hertz in ((tmp_path / "earlier.mp4", before), (tmp_path / "video.mp4", after))
    )
    assert put_before(earlier, video) == 48
    assert pitches(video, [0, 1, 2]) == pytest.approx([before or 0, after or 0], abs=3)
    assert heard(video).shape[1] / RATE == pytest.approx(2, abs=1 / FPS)
