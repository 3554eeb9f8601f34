"""A finished video in other formats: the same frames, the right colours, the rate that was asked for."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageSequence

from i2v.messages import UserError
from i2v.video import ffmpeg
from i2v.video import reencode as module
from i2v.video.look import LIMITS, WARMTH_GAIN, Look
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


# --- colours ---

PATCHES = ((200, 40, 40), (40, 180, 60), (50, 60, 190), (128, 128, 128), (240, 200, 150), (16, 24, 40))
LOOKS = (
    *(Look(brightness=value) for value in (0.25, 0.8, 2)),
    *(Look(contrast=value) for value in (0.25, 1.4, 2)),
    *(Look(saturation=value) for value in (0, 0.5, 2)),
    *(Look(warmth=value) for value in (-1, 0.4, 1)),
    Look(1.2, 1.3, 0.7, -0.5),
)


def as_css_has_it(colours: np.ndarray, look: Look) -> np.ndarray:
    """Filter Effects 1 on R, G, B of 0..255: linear transfers, and feColorMatrix "saturate"."""
    gains = np.array([1 + WARMTH_GAIN * look.warmth, 1, 1 - WARMTH_GAIN * look.warmth])
    x = np.clip(colours / 255 * gains, 0, 1)
    x = np.clip(x * look.brightness, 0, 1)
    x = np.clip((x - 0.5) * look.contrast + 0.5, 0, 1)
    grey = (x @ np.array([0.213, 0.715, 0.072]))[..., None]
    return 255 * np.clip(grey + look.saturation * (x - grey), 0, 1)


@pytest.fixture(scope="module")
def patches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two frames of six patches of 64x64."""
    frame = np.zeros((128, 192, 3), dtype=np.uint8)
    for number, colour in enumerate(PATCHES):
        top, left = 64 * (number // 3), 64 * (number % 3)
        frame[top : top + 64, left : left + 64] = colour
    return write_video(tmp_path_factory.mktemp("patches") / "video.mp4", [frame] * 2)


@pytest.mark.parametrize("format", FORMATS)
def test_a_look_is_what_css_makes_of_the_frames(patches: Path, tmp_path: Path, format: str) -> None:
    for look in LOOKS:
        target = tmp_path / f"look.{format}"
        reencode(patches, target, fps=16, format=format, quality="best", look=look)
        Image.new("RGB", (192, 128)).save(tmp_path / "size.png")
        wanted = as_css_has_it(np.array(PATCHES, float), look)
        for picture in pictures(target):
            inner = [(64 * (n // 3) + 16, 64 * (n % 3) + 16) for n in range(len(PATCHES))]
            found = np.array([picture[y : y + 32, x : x + 32].mean(axis=(0, 1)) for y, x in inner])
            # As far as colours are off without any look (test_colours_stay), times what the look enlarges.
            assert np.abs(found - wanted).max() < 5 * max(1, look.contrast, look.brightness, look.saturation), look


def test_brightness_is_pillows(source: Path, tmp_path: Path) -> None:
    """On a photograph, frame by frame; another brightness is far off."""
    target = tmp_path / "v.mp4"
    reencode(source, target, fps=16, format="mp4", quality="best", look=Look(brightness=0.7))
    Image.new("RGB", (128, 96)).save(tmp_path / "size.png")
    out = list(pictures(target))
    assert len(out) == len(FRAMES)
    for picture, frame in zip(out, FRAMES, strict=True):
        as_pillow = ImageEnhance.Brightness(Image.fromarray(frame)).enhance(0.7)
        assert psnr(picture, np.asarray(as_pillow)) > 30
        assert psnr(picture, frame) < 25


def test_a_look_that_changes_nothing_changes_no_byte(source: Path, tmp_path: Path) -> None:
    for format in FORMATS:
        plain, looked = tmp_path / f"a.{format}", tmp_path / f"b.{format}"
        reencode(source, plain, fps=8, format=format)
        same = Look.of({"brightness": "1", "warmth": 0.0, "contrast": None})
        reencode(source, looked, fps=8, format=format, look=same)
        if format == "webm":  # each has an id of its own
            assert shown(plain) == shown(looked)
        else:
            assert plain.read_bytes() == looked.read_bytes()


def test_a_looks_name_tells_looks_apart() -> None:
    named = {look.name for look in LOOKS}
    assert len(named) == len(LOOKS)
    assert Look.of({"warmth": -0.104}).name == "warmth-0.1"
    assert Look().name == ""


@pytest.mark.parametrize("name", LIMITS)
def test_a_value_out_of_range_is_refused_with_the_range(name: str) -> None:
    low, high = LIMITS[name]
    for value in (low, high):
        assert getattr(Look.of({name: value}), name) == value
    for value in (low - 0.01, high + 0.01, "much", True, float("inf")):
        with pytest.raises(UserError) as caught:
            Look.of({name: value})
        assert caught.value.message.params["name"] == name
        assert f"{low:g}" in str(caught.value)
        assert f"{high:g}" in str(caught.value)


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
    failing = 'echo Conversion broke >&2; echo half >"${1#file:}"; exit 3'
    monkeypatch.setattr(module, "probe_video", lambda _: SimpleNamespace(sound_hz=None))
    monkeypatch.setattr(ffmpeg, "command", lambda *words: ["sh", "-c", failing, "sh", words[-1]])
    with pytest.raises(UserError, match=r"code 3\. Conversion broke"):
        reencode(source, target, fps=8, format="gif")
    assert os.listdir(tmp_path) == ["v.gif"]
    assert target.read_bytes() == b"older"


def test_names_that_are_none_are_mistakes(source: Path, tmp_path: Path) -> None:
    for wrong in ({"format": "avi"}, {"quality": "great"}, {"fps": 0}):
        with pytest.raises(ValueError, match="no way to write"):
            reencode(source, tmp_path / "v", **{"fps": 8, "format": "gif", **wrong})
