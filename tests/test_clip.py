"""A clip's facts and its frames: whatever cameras and programs write, and a plain word for what is no clip."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from i2v.messages import UserError
from i2v.video import clip as clips
from i2v.video import ffmpeg
from i2v.video.clip import ClipFrames, clip_facts, read_clip
from i2v.video.picture import fit_picture
from tests.video_support import film, moving_frames, write_video

H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
LOSSLESS = ("-c:v", "libx264", "-preset", "ultrafast", "-qp", "0", "-pix_fmt", "yuv444p")


def refusal(path: Path, *more: object) -> str:
    """The id of what is said of the file at `path`."""
    with pytest.raises(UserError) as refused:
        read_clip(path, 64, 64, *more, "crop") if more else clip_facts(path)
    assert refused.value.message.render() != refused.value.message.render("zh-CN")
    return refused.value.message.id


def decoded(path: Path, width: int, height: int) -> np.ndarray:
    """Every frame as ffmpeg itself shows it, one after the other, whatever their times."""
    made = subprocess.run(
        ffmpeg.command("-v", "error", "-i", str(path), "-fps_mode", "passthrough", "-f", "rawvideo",
                       "-pix_fmt", "rgb24", "-"),
        capture_output=True, check=True,
    )  # fmt: skip
    return np.frombuffer(made.stdout, np.uint8).reshape(-1, height, width, 3)


def nearest(shown: np.ndarray, frames: np.ndarray) -> int:
    """Which of `frames` is most like `shown`."""
    return int(np.argmin([np.abs(shown.astype(int) - one).mean() for one in frames]))


def which(path: Path, size: tuple[int, int], count: int, fps: float) -> list[int]:
    """Which frames of the clip are read, by their numbers."""
    frames = decoded(path, *size)
    return [nearest(np.asarray(one), frames) for one in read_clip(path, *size, count, fps, "crop")]


@pytest.mark.parametrize(
    ("name", "output", "shown", "suffix"),
    [
        ("plain.mp4", H264, (96, 64), ".mp4"),
        ("sound.mov", (*H264, "-f", "mov"), (96, 64), ".mov"),
        ("vp9.webm", ("-c:v", "libvpx-vp9", "-cpu-used", "8"), (96, 64), ".webm"),
        ("odd.mkv", ("-c:v", "ffv1", "-vf", "format=gbrp,crop=95:63"), (95, 63), ".mkv"),
        ("wide.mp4", (*H264, "-vf", "setsar=2"), (192, 64), ".mp4"),
        ("ten_bits.mp4", ("-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-x265-params", "log-level=none"),
         (96, 64), ".mp4"),
        ("old.avi", ("-c:v", "mpeg4"), (96, 64), ".avi"),
        ("camera.ts", H264, (96, 64), ".ts"),
    ],
)  # fmt: skip
def test_what_cameras_and_programs_write_is_read(tmp_path, name, output, shown, suffix):
    path = film(tmp_path / name, *output)
    facts = clip_facts(path)
    assert ((facts.width, facts.height), facts.suffix) == (shown, suffix)
    assert (facts.frames, round(facts.seconds, 1), round(facts.fps)) == (32, 2.0, 16)
    assert facts.frames_at(16) == 32
    frames = read_clip(path, 64, 64, 32, 16, "pad")
    assert [one.size for one in frames] == [(64, 64)] * 32
    assert frames[0].tobytes() != frames[-1].tobytes()


def test_every_frame_is_the_right_one_at_the_clips_own_rate(tmp_path):
    path = film(tmp_path / "clip.mp4", *LOSSLESS)
    assert which(path, (96, 64), 32, 16) == list(range(32))
    path = film(tmp_path / "clip.mkv", *LOSSLESS, rate="30", seconds=1)  # which counts milliseconds
    assert which(path, (96, 64), 30, 30) == list(range(30))


def test_another_rate_takes_frames_by_their_time(tmp_path):
    path = film(tmp_path / "clip.mp4", *LOSSLESS)
    assert which(path, (96, 64), 16, 8) == list(range(0, 32, 2))
    assert which(path, (96, 64), 20, 32) == [number // 2 for number in range(20)]


def test_a_rate_that_varies_is_followed_by_time(tmp_path):
    # The first second has 16 frames, the second one only 4.
    varying = ("-vf", "select='lt(n,16)+not(mod(n,4))'", "-fps_mode", "vfr")
    path = film(tmp_path / "clip.mp4", *varying, *LOSSLESS)
    assert clip_facts(path).frames == 20
    assert which(path, (96, 64), 8, 4) == [0, 4, 8, 12, 16, 17, 18, 19]


def test_it_stands_upright_as_the_camera_was_held(tmp_path):
    lying = film(tmp_path / "lying.mp4", *LOSSLESS)
    path = tmp_path / "upright.mp4"
    turned = ffmpeg.run("-v", "error", "-display_rotation", "90", "-i", str(lying), "-c", "copy", str(path))
    assert turned.returncode == 0, turned.stderr
    facts = clip_facts(path)
    assert (facts.width, facts.height) == (64, 96)
    shown = np.asarray(read_clip(path, 64, 96, 1, 16, "crop")[0]).astype(int)
    assert np.abs(shown - np.rot90(decoded(lying, 96, 64)[0])).mean() < 1


def test_frames_are_fitted_as_a_picture_is(tmp_path):
    path = film(tmp_path / "clip.mp4", *LOSSLESS)
    for fit in ("crop_left", "pad"):
        fitted = fit_picture(Image.fromarray(decoded(path, 96, 64)[0]), 48, 48, fit)
        shown = read_clip(path, 48, 48, 1, 16, fit)[0]
        assert np.abs(np.asarray(shown).astype(int) - np.asarray(fitted)).mean() < 1


def test_colours_of_our_own_videos_come_back(tmp_path):
    frames = moving_frames(8)
    path = write_video(tmp_path / "video.mp4", frames)
    read = read_clip(path, 96, 64, 8, 16, "crop")
    assert max(np.abs(np.asarray(one).astype(int) - frame).mean() for one, frame in zip(read, frames, strict=True)) < 3


@pytest.mark.parametrize(("size", "matrix"), [("1280x720", "bt709"), ("640x360", "bt601")])
@pytest.mark.parametrize("said", [True, False])
def test_colours_that_nothing_is_said_of_are_read_as_players_do(tmp_path, size, matrix, said):
    """Large videos as BT.709, small ones as BT.601."""
    width, height = map(int, size.split("x"))
    tags = "" if said else ",setparams=colorspace=unknown:color_primaries=unknown:color_trc=unknown"
    filters = ("-vf", f"format=rgb24,scale=out_color_matrix={matrix},format=yuv444p{tags}")
    path = film(tmp_path / "clip.mp4", *filters, *LOSSLESS, size=size, seconds=0.5)
    film(tmp_path / "rgb.mkv", "-c:v", "ffv1", "-pix_fmt", "gbrp", size=size, seconds=0.5)
    read, written = (read_clip(one, width, height, 1, 16, "crop")[0] for one in (path, tmp_path / "rgb.mkv"))
    assert np.abs(np.asarray(read).astype(int) - np.asarray(written)).mean() < 2


@pytest.mark.parametrize(
    ("name", "half", "output"),
    [
        ("camera.mp4", "top", ("-c:v", "libx264", "-qp", "0", "-flags", "+ildct+ilme")),
        ("disc.ts", "bottom", ("-c:v", "mpeg2video", "-q:v", "1", "-flags", "+ildct+ilme")),
    ],
)
def test_an_interlaced_clip_is_deinterlaced(tmp_path, name, half, output):
    """All lines of a frame are of one moment then: a film of twice as many frames has it whole."""
    soft = "boxblur=3,scroll=horizontal=0.04"  # what is sharper than a line cannot be made of every other one
    whole = film(tmp_path / "whole.mkv", "-c:v", "ffv1", "-vf", f"{soft},format=yuv444p", rate="50", seconds=1)
    woven = film(tmp_path / name, "-vf", f"{soft},tinterlace=interleave_{half}", *output, rate="50", seconds=1)
    moments, combed = decoded(whole, 96, 64)[::2].astype(int), decoded(woven, 96, 64)
    read = np.stack([np.asarray(one) for one in read_clip(woven, 96, 64, 25, 25, "crop")])
    off, off_combed = (np.square(moments - one)[1:].mean() for one in (read, combed))
    assert off < off_combed / 20


def test_high_dynamic_range_is_brought_down(tmp_path):
    """Half the signal of HLG is the light that ITU-R BT.2100 says of it, its white that of BT.2408 (three quarters)."""
    tagged = ("-c:v", "libx265", "-x265-params",
              "log-level=none:colorprim=bt2020:transfer=arib-std-b67:colormatrix=bt2020nc")  # fmt: skip
    path = film(tmp_path / "hlg.mp4", "-vf", "format=gbrp10le,lutrgb=r=512:g=512:b=512,format=yuv420p10le", *tagged)
    light = (0.5**2 / 3) / ((np.exp((0.75 - 0.55991073) / 0.17883277) + 0.28466892) / 12)
    expected = 255 * (light**1.2) ** (1 / 2.4)
    shown = np.asarray(read_clip(path, 64, 64, 1, 16, "crop")[0])
    assert abs(shown.mean() - expected) < 5


def test_of_ten_thousand_frames_only_the_beginning_is_read(tmp_path):
    path = film(tmp_path / "long.mp4", *H264, size="32x32", rate="100", seconds=100)
    assert clip_facts(path).frames == 10_000
    assert len(read_clip(path, 32, 32, 5, 100, "crop")) == 5


def test_a_clip_with_sound_that_begins_earlier_begins_with_its_first_frame(tmp_path):
    path = tmp_path / "late.mkv"
    film(path, *LOSSLESS, "-f", "matroska")
    late = tmp_path / "late2.mkv"
    made = ffmpeg.run(
        *("-v", "error", "-itsoffset", "0.5", "-i", str(path), "-f", "lavfi", "-i", "sine=duration=3"),
        *("-map", "0:v", "-map", "1:a", "-c:v", "copy", "-c:a", "aac", str(late)),
    )
    assert made.returncode == 0, made.stderr
    assert round(clip_facts(late).seconds, 2) == 2
    assert which(late, (96, 64), 4, 16) == [0, 1, 2, 3]


def test_what_was_cut_off_in_front_is_not_there(tmp_path):
    """A program that copies a part of a video keeps the frames before it which others are made from, hidden."""
    whole, part = film(tmp_path / "whole.mp4", *LOSSLESS, "-g", "99", "-bf", "2"), tmp_path / "part.mp4"
    made = ffmpeg.run("-v", "error", "-ss", "1.03", "-i", str(whole), "-c", "copy", str(part))
    assert made.returncode == 0, made.stderr
    facts = clip_facts(part)
    assert facts.frames == facts.frames_at(16) == len(decoded(part, 96, 64)) == 15
    frames = decoded(whole, 96, 64)
    read = read_clip(part, 96, 64, 15, 16, "crop")
    assert [nearest(np.asarray(one), frames) for one in read] == list(range(17, 32))


def test_a_clip_that_is_too_short_is_refused_with_the_length_that_fits(tmp_path):
    path = film(tmp_path / "clip.mp4", *H264)
    with pytest.raises(UserError) as refused:
        read_clip(path, 64, 64, 33, 16, "crop")
    assert refused.value.message.id == "clip.too_short"
    assert refused.value.message.params["most"] == 32
    assert refusal(path, 32, 8) == "clip.too_short"
    assert len(read_clip(path, 64, 64, 32, 16, "crop")) == 32


def test_what_is_no_clip_is_told_in_plain_words(tmp_path):
    whole = film(tmp_path / "whole.mp4", *H264, "-movflags", "+faststart")
    data = whole.read_bytes()
    webm = film(tmp_path / "whole.webm", "-c:v", "libvpx-vp9", "-cpu-used", "8").read_bytes()
    picture = tmp_path / "one.mp4"
    film(picture, *H264, "-frames:v", "1")
    sound = tmp_path / "sound.mp4"
    ffmpeg.run("-v", "error", "-f", "lavfi", "-i", "sine=duration=1", str(sound))
    files = {
        "cut.mp4": (data[: len(data) * 2 // 3], "video.incomplete"),
        "cut_index.mp4": (film(tmp_path / "end.mp4", *H264).read_bytes()[:-600], "video.incomplete"),
        "cut.webm": (webm[: len(webm) // 2], "video.incomplete"),
        "empty.mp4": (b"", "clip.empty"),
        "text.mp4": (b"no film at all\n" * 99, "clip.unknown"),
        "noise.mp4": (np.random.default_rng(1).bytes(9999), "clip.unknown"),
    }
    for name, (content, told) in files.items():
        (tmp_path / name).write_bytes(content)
        assert refusal(tmp_path / name) == told, name
    assert refusal(picture) == "clip.one_picture"
    assert refusal(sound) == "clip.only_sound"
    assert refusal(tmp_path) == "clip.folder"
    assert refusal(tmp_path / "none.mp4") == "video.missing"


def test_pictures_and_lists_of_files_are_no_clips(tmp_path):
    film(tmp_path / "clip.ts", *H264)
    Image.new("RGB", (64, 64)).save(tmp_path / "picture.png")
    Image.new("RGB", (64, 64)).save(tmp_path / "picture.gif")
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nclip.ts\n#EXT-X-ENDLIST\n")
    (tmp_path / "list.ffconcat").write_text("ffconcat version 1.0\nfile clip.ts\n")
    for name in ("picture.png", "picture.gif", "list.m3u8", "list.ffconcat"):
        assert refusal(tmp_path / name) == "clip.unknown", name
        (tmp_path / "named.mp4").write_bytes((tmp_path / name).read_bytes())
        assert refusal(tmp_path / "named.mp4") == "clip.unknown", name


def test_one_that_is_too_large_is_refused_before_its_frames_are_made(tmp_path, monkeypatch):
    path = film(tmp_path / "clip.mp4", *H264)
    with pytest.raises(UserError) as refused:
        clip_facts(path, max_megapixels=0.005)
    assert refused.value.message.id == "video.too_large"
    stretched = film(tmp_path / "stretched.mp4", *H264, "-vf", "setsar=9")
    with pytest.raises(UserError) as refused:
        clip_facts(stretched, max_megapixels=0.03)
    assert refused.value.message.id == "video.too_large"
    monkeypatch.setattr(clips, "MAX_BYTES", 100)
    assert refusal(path) == "clip.too_heavy"


def test_one_that_takes_too_long_is_given_up(tmp_path, monkeypatch):
    path = film(tmp_path / "clip.mp4", *H264, seconds=20)
    monkeypatch.setattr(clips, "_READ_SECONDS", 0.0)
    assert refusal(path, 320, 16) == "clip.too_slow"
    monkeypatch.setattr(clips, "_LOOK_SECONDS", 0.0)
    assert refusal(film(tmp_path / "another.mp4", *H264)) == "clip.too_slow"


def test_a_file_is_looked_at_once_as_long_as_it_stays_the_same(tmp_path, monkeypatch):
    path = film(tmp_path / "clip.mp4", *H264)
    before = clip_facts(path)
    monkeypatch.setattr(ffmpeg, "run", lambda *_, **__: pytest.fail("looked at again"))
    assert clip_facts(path) == before
    monkeypatch.undo()
    film(path, *H264, seconds=1)
    assert (before.frames, clip_facts(path).frames) == (32, 16)


def test_any_name_is_only_a_name(tmp_path):
    folder = tmp_path / "a%03d 'b' : x"
    folder.mkdir()
    path = film(tmp_path / "clip.mp4", *H264).rename(folder / "-i concat:x|y 小船.mp4")
    assert clip_facts(path).frames == 32


def test_frames_are_read_when_they_are_looked_at(tmp_path):
    path = film(tmp_path / "clip.mp4", *H264)
    frames = ClipFrames(path, 64, 64, 8, 16, "crop")
    path_away = path.rename(tmp_path / "away.mp4")
    assert len(frames) == 8
    path_away.rename(path)
    assert [one.tobytes() for one in frames] == [one.tobytes() for one in read_clip(path, 64, 64, 8, 16, "crop")]
    assert len(frames[2:4]) == 2
