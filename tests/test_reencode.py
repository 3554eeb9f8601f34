"""A finished video in other formats: the same frames, the right colours, the rate that was asked for."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from i2v.messages import UserError
from i2v.video import ffmpeg
from i2v.video import reencode as module
from i2v.video.metadata import probe_video, read_metadata
from i2v.video.reencode import FORMATS, QUALITIES, reencode
from tests.photos import photograph
from tests.video_support import moving_frames, shown, write_video

FRAMES = moving_frames(12, 128, 96)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("source") / "video.mp4", FRAMES, fps=16, prompt="城市")


def pictures(path: Path) -> Iterator[np.ndarray]:
    """The frames as RGB: Pillow's own decoders where it has them, else ffmpeg's."""
    if path.suffix in (".gif", ".webp"):
        with Image.open(path) as picture:
            yield from [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(picture)]
        return
    raw = path.with_suffix(".raw")
    matrix = "scale=in_color_matrix=bt709:in_range=tv"
    ran = ffmpeg.run(
        *("-v", "error", "-i", os.fspath(path), "-vf", matrix, "-fps_mode", "passthrough"),
        *("-pix_fmt", "rgb24", "-f", "rawvideo", os.fspath(raw)),
    )
    assert ran.returncode == 0, ran.stderr
    with Image.open(path.with_name("size.png")) as size:
        yield from np.fromfile(raw, dtype=np.uint8).reshape(-1, size.height, size.width, 3)
    raw.unlink()


def psnr(one: np.ndarray, two: np.ndarray) -> float:
    return 10 * np.log10(255**2 / max(1e-9, np.mean((one.astype(float) - two) ** 2)))


def made(source: Path, folder: Path, format: str, fps: float = 16, quality: str = "good") -> Path:
    target = folder / f"other.{format}"
    reencode(source, target, fps=fps, format=format, quality=quality)
    assert os.listdir(folder) == [target.name]
    return target


@pytest.mark.parametrize("format", FORMATS)
def test_every_frame_is_there_in_its_order(source: Path, tmp_path: Path, format: str) -> None:
    target = made(source, tmp_path, format, quality="best")
    Image.new("RGB", (128, 96)).save(tmp_path / "size.png")
    out = list(pictures(target))
    assert len(out) == len(FRAMES)
    for index, picture in enumerate(out):
        likeness = [psnr(picture, frame) for frame in FRAMES]
        assert int(np.argmax(likeness)) == index
        assert likeness[index] > 27


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 150, 120), (255, 255, 255)])
def test_colours_stay(tmp_path: Path, format: str, colour: tuple[int, int, int]) -> None:
    """BT.601 for BT.709 is off by up to 40 of 255 in these."""
    source = write_video(tmp_path / "v.mp4", [np.full((96, 128, 3), colour, dtype=np.uint8)] * 2)
    (tmp_path / "out").mkdir()
    target = made(source, tmp_path / "out", format, quality="best")
    Image.new("RGB", (128, 96)).save(tmp_path / "out" / "size.png")
    for picture in pictures(target):
        assert np.abs(picture.mean(axis=(0, 1)) - colour).max() < 5


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("fps", [1, 8, 12.5, 30, 50])
def test_another_rate_plays_the_same_frames(source: Path, tmp_path: Path, format: str, fps: float) -> None:
    target = made(source, tmp_path, format, fps=fps)
    if format == "mp4":
        info = probe_video(target)
        assert (info.frames, info.fps) == (len(FRAMES), fps)
        assert list(shown(target)) == list(range(len(FRAMES)))
    if format in ("mp4", "webm"):
        told = re.search(r" ([\d.]+) fps", ffmpeg.run("-i", os.fspath(target)).stderr)
        assert told
        assert float(told[1]) == fps
    else:
        with Image.open(target) as picture:
            durations = []
            for frame in ImageSequence.Iterator(picture):
                frame.load()
                durations.append(frame.info["duration"])
            assert picture.info["loop"] == 0
        assert len(durations) == len(FRAMES)
        # WebP counts in ms, GIF in 10 ms: no frame is off by more than that, and the differences do not add up.
        tick = 10 if format == "gif" else 1
        assert max(abs(duration - 1000 / fps) for duration in durations) <= tick
        assert abs(sum(durations) - 1000 * len(FRAMES) / fps) <= tick


def test_what_browsers_play(source: Path, tmp_path: Path) -> None:
    expected = {"mp4": "h264 (High)", "webm": "vp9"}
    for format, codec in expected.items():
        described = ffmpeg.run("-i", os.fspath(made(source, tmp_path, format))).stderr
        assert codec in described
        assert "yuv420p(tv, bt709" in described
        (tmp_path / f"other.{format}").unlink()
    data = made(source, tmp_path, "mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_the_request_stays_in_an_mp4(source: Path, tmp_path: Path) -> None:
    assert read_metadata(made(source, tmp_path, "mp4")) == {"prompt": "城市"}


@pytest.mark.parametrize("format", FORMATS)
def test_better_is_larger_and_nearer(source: Path, tmp_path: Path, format: str) -> None:
    sizes, near = [], []
    for quality in QUALITIES:
        target = made(source, tmp_path, format, quality=quality)
        sizes.append(target.stat().st_size)
        Image.new("RGB", (128, 96)).save(tmp_path / "size.png")
        near.append(np.mean([psnr(a, b) for a, b in zip(pictures(target), FRAMES, strict=True)]))
        target.unlink()
        (tmp_path / "size.png").unlink()
    assert all(a < b for a, b in pairwise(sizes)), sizes
    assert all(a < b for a, b in pairwise(near)), near


def test_it_may_take_its_own_place(source: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.mp4"
    path.write_bytes(source.read_bytes())
    reencode(path, path, fps=8, format="mp4")
    assert (probe_video(path).frames, probe_video(path).fps) == (len(FRAMES), 8)
    assert os.listdir(tmp_path) == ["other.mp4"]


# --- what cannot be done ---


def test_a_gif_has_its_limit(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at most 50 frames"):
        reencode(source, tmp_path / "v.gif", fps=60, format="gif")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("make", "said"), [(None, "video.missing"), (photograph, "video.not_a_video")])
def test_no_video(tmp_path: Path, make: object, said: str) -> None:
    path = make() if callable(make) else tmp_path / "none.mp4"
    with pytest.raises(UserError) as caught:
        reencode(path, tmp_path / "v.webm", fps=8, format="webm")
    assert caught.value.message.id == said
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_not_there(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        reencode(source, tmp_path / "gone" / "v.webp", fps=8, format="webp")
    assert caught.value.message.id in ("video.not_writable", "video.encoder_failed")


def test_an_encoder_that_fails_leaves_the_older_file(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "v.gif"
    target.write_bytes(b"older")
    failing = "echo Conversion broke >&2; echo half >{}; exit 3"
    part = tmp_path / ".v.gif.part"
    monkeypatch.setattr(module, "probe_video", lambda _: None)
    monkeypatch.setattr(ffmpeg, "command", lambda *_: ["sh", "-c", failing.format(part)])
    with pytest.raises(UserError, match=r"code 3\. Conversion broke"):
        reencode(source, target, fps=8, format="gif")
    assert os.listdir(tmp_path) == ["v.gif"]
    assert target.read_bytes() == b"older"


def test_names_that_are_none_are_mistakes(source: Path, tmp_path: Path) -> None:
    for wrong in ({"format": "avi"}, {"quality": "great"}, {"fps": 0}):
        with pytest.raises(ValueError, match="no way to write"):
            reencode(source, tmp_path / "v", **{"fps": 8, "format": "gif", **wrong})
