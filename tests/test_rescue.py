"""A video plays while it grows, and what a run that ended early leaves of it is kept."""

from __future__ import annotations

import os
import time
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from i2v.messages import UserError
from i2v.video import ffmpeg
from i2v.video.metadata import probe_video, read_metadata
from i2v.video.rescue import growing_path, partial_path, rescue, rescue_video, whole_fragments
from i2v.video.writer import LAG_FRAMES, VideoWriter
from tests.video_support import moving_frames, shown, write_video

FRAMES = 24
METADATA = {"prompt": "城市 = \\ ; #"}


@cache
def grown() -> bytes:
    """A video of FRAMES frames as it is just before its index is put in front."""
    path = _temporary() / "grown.mp4"
    with VideoWriter(path, width=96, height=64, fps=16, metadata=METADATA) as video:
        for frame in moving_frames(FRAMES):
            video.write(frame)
        video._end_encoder(None)
        return growing_path(path).read_bytes()


@cache
def all_shown() -> dict[int, str]:
    return shown(write_video(_temporary() / "whole.mp4", moving_frames(FRAMES)))


@pytest.fixture(autouse=True, scope="module")
def temporary(tmp_path_factory: pytest.TempPathFactory) -> None:
    global _folder
    _folder = tmp_path_factory.mktemp("grown")


def _temporary() -> Path:
    return _folder


# --- while it grows ---


@pytest.mark.parametrize("size", [(32, 32), (96, 64), (320, 512)])
def test_it_grows_as_frames_come(tmp_path: Path, size: tuple[int, int]) -> None:
    """Waits for the encoder, not for the clock: what is not in the file after a minute is held back."""
    path, frames = tmp_path / "v.mp4", moving_frames(30, *size)
    growing = growing_path(path)
    with VideoWriter(path, width=size[0], height=size[1], fps=16, metadata=METADATA) as video:
        for written, frame in enumerate(frames, start=1):
            video.write(frame)
            if written not in (LAG_FRAMES, LAG_FRAMES + 1, 20, 30):
                continue
            until = time.monotonic() + 60
            while whole_fragments(growing)[1] < written - LAG_FRAMES and time.monotonic() < until:
                time.sleep(0.01)
            if written > LAG_FRAMES:
                assert len(shown(growing)) >= written - LAG_FRAMES
                assert read_metadata(growing) == METADATA
                assert "start: 0.000000" in ffmpeg.run("-i", os.fspath(growing)).stderr
        assert not path.exists()
        seen = shown(growing)
    assert seen.items() <= shown(path).items()
    assert len(shown(path)) == len(frames)
    assert os.listdir(tmp_path) == ["v.mp4"]


# --- what is left ---


@given(data=st.data())
@settings(max_examples=60)
def test_broken_off_at_any_byte_its_whole_frames_are_kept(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = grown()
    cut = data.draw(st.integers(0, len(whole)))
    folder = tmp_path_factory.mktemp("cut")
    part, target = folder / "part", folder / "v-partial.mp4"
    part.write_bytes(whole[:cut])
    frames = rescue(part, target)
    # Every box of data that is whole is a frame, and its name stands nowhere else in this file.
    assert (frames or 0) == sum(end <= cut for end in _ends_of_frames(whole))
    if frames is None:
        assert os.listdir(folder) == []
        return
    assert os.listdir(folder) == ["v-partial.mp4"]
    left = shown(target)
    assert len(left) == frames == probe_video(target).frames
    assert left.items() <= all_shown().items()
    assert left.keys() >= set(range(frames - 3))
    assert read_metadata(target) == METADATA


def _ends_of_frames(whole: bytes) -> list[int]:
    places = [place for place in range(len(whole)) if whole.startswith(b"mdat", place)]
    assert len(places) == FRAMES
    return [place - 4 + int.from_bytes(whole[place - 4 : place]) for place in places]


def test_the_index_comes_first_in_what_is_left(tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(grown())
    assert rescue(tmp_path / "part", tmp_path / "v.mp4") == FRAMES
    data = (tmp_path / "v.mp4").read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")
    assert b"moof" not in data


def test_nothing_left_leaves_an_older_one_alone(tmp_path: Path) -> None:
    target = write_video(tmp_path / "v-partial.mp4", moving_frames(2))
    before = target.read_bytes()
    assert rescue(tmp_path / "missing", target) is None
    (tmp_path / "part").write_bytes(grown()[:700])
    assert rescue(tmp_path / "part", target) is None
    assert os.listdir(tmp_path) == ["v-partial.mp4"]
    assert target.read_bytes() == before


@pytest.mark.parametrize("name", ["a b.mp4", "-y.mp4", "%03d.mp4", "城市 🙂.mp4", "a:b?#'\".mp4", "a,b;,,end,3,:c.mp4"])
def test_any_name_is_taken_as_it_is(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    growing_path(Path(name)).write_bytes(grown())
    assert rescue_video(Path(name)) == FRAMES
    assert os.listdir() == [partial_path(Path(name)).name]
    assert probe_video(partial_path(Path(name))).frames == FRAMES


def test_killed_after_the_whole_video_had_its_name(tmp_path: Path) -> None:
    growing_path(tmp_path / "v.mp4").write_bytes(grown())
    write_video(tmp_path / "other.mp4", moving_frames(3)).rename(tmp_path / "v.mp4")
    assert rescue_video(tmp_path / "v.mp4") is None
    assert os.listdir(tmp_path) == ["v.mp4"]


def test_an_older_video_is_no_reason_to_drop_frames(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", moving_frames(3))
    os.utime(path, (1e9, 1e9))
    growing_path(path).write_bytes(grown())
    assert rescue_video(path) == FRAMES
    assert probe_video(path).frames == 3
    assert sorted(os.listdir(tmp_path)) == ["v-partial.mp4", "v.mp4"]


def test_without_a_copy_the_part_itself_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a disk that is full: the copy fails, the frames stay."""
    whole = grown()
    ends = _ends_of_frames(whole)
    (tmp_path / "part").write_bytes(whole[: ends[9] + 5])
    monkeypatch.setattr(ffmpeg, "command", lambda *_: ["sh", "-c", "echo No space left on device >&2; exit 1"])
    assert rescue(tmp_path / "part", tmp_path / "v.mp4") == 10
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["v.mp4"]
    assert (tmp_path / "v.mp4").read_bytes() == whole[: ends[9]]
    assert len(shown(tmp_path / "v.mp4")) == 10


def test_a_folder_that_is_gone_is_said(tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(grown())
    with pytest.raises(UserError) as caught:
        rescue(tmp_path / "part", tmp_path / "gone" / "v.mp4")
    assert caught.value.message.id == "video.not_writable"
    assert os.listdir(tmp_path) == ["part"]


def test_another_kind_of_file_holds_no_frame(tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(np.random.default_rng(0).bytes(5000))
    assert whole_fragments(tmp_path / "part") == (0, 0)
    assert whole_fragments(tmp_path / "part" / "below a file") == (0, 0)
