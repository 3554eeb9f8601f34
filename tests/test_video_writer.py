"""Videos appear whole under their name, with the right colours, and every browser can play them."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import textwrap
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest

from i2v.messages import UserError
from i2v.video import ffmpeg
from i2v.video.metadata import probe_video, read_metadata
from i2v.video.picture import fit_picture, load_picture
from i2v.video.writer import VideoWriter
from tests.photos import photograph
from tests.video_support import moving_frames, shown, small_disk
from tests.video_support import write_video as write

NOISE = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)


def yuv_planes(path: Path) -> list[np.ndarray]:
    """Y, U and V of the first frame exactly as stored, without any colour conversion."""
    info = probe_video(path)
    command = ffmpeg.command("-v", "error", "-i", str(path), "-frames:v", "1", "-f", "rawvideo", "-")
    data = np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, dtype=np.uint8)
    luma, half = info.width * info.height, info.width * info.height // 4
    return [data[:luma], data[luma : luma + half], data[luma + half : luma + 2 * half]]


def boxes(path: Path) -> list[str]:
    """The names of an mp4's top-level boxes in order; they must fill the file exactly."""
    data, names, place = path.read_bytes(), [], 0
    while place < len(data):
        size, name = struct.unpack_from(">I4s", data, place)
        names.append(name.decode())
        place += size
    assert place == len(data)
    return names


# --- what comes out ---


def test_a_browser_can_play_it(tmp_path: Path) -> None:
    path = write(tmp_path / "v.mp4", [NOISE] * 5)
    info = probe_video(path)
    assert (info.width, info.height, info.frames, info.fps) == (96, 64, 5, 16)
    assert (info.codec, info.pixel_format, info.seconds) == ("h264", "yuv420p", 5 / 16)
    names = boxes(path)
    assert names.index("moov") < names.index("mdat"), "the index must come first (faststart)"
    described = ffmpeg.run("-i", str(path)).stderr
    assert "h264 (High)" in described
    assert "yuv420p(tv, bt709," in described


@pytest.mark.parametrize("fps", [1, 7, 16, 24, 30, 60])
@pytest.mark.parametrize("count", [1, 2, 17])
def test_rate_and_number_of_frames_are_exact(tmp_path: Path, fps: int, count: int) -> None:
    reader = cv2.VideoCapture(str(write(tmp_path / "v.mp4", [NOISE] * count, fps=fps)))
    assert reader.get(cv2.CAP_PROP_FPS) == fps
    decoded = 0
    while reader.read()[0]:
        decoded += 1
    assert decoded == count


@pytest.mark.parametrize(
    "colour",
    [(255, 255, 255), (0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255), (128, 128, 128), (200, 150, 120)],
)
def test_colours_are_those_of_bt709(tmp_path: Path, colour: tuple[int, int, int]) -> None:
    path = write(tmp_path / "v.mp4", [np.full((64, 96, 3), colour, dtype=np.uint8)] * 2)
    red, green, blue = np.array(colour) / 255
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue  # ITU-R BT.709-6, section 3
    expected = [16 + 219 * luma, 128 + 224 * (blue - luma) / 1.8556, 128 + 224 * (red - luma) / 1.5748]
    for plane, value in zip(yuv_planes(path), expected, strict=True):
        assert abs(plane.mean() - value) < 1.5
        assert np.ptp(plane) <= 2


def test_frames_come_out_as_they_went_in_and_in_order(tmp_path: Path) -> None:
    photo = load_picture(photograph())
    frames = [np.asarray(fit_picture(photo.rotate(5 * i), 256, 192, "crop")) for i in range(6)]
    write(tmp_path / "v.mp4", frames)
    command = ffmpeg.command("-v", "error", "-i", str(tmp_path / "v.mp4"), "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    decoded = np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, dtype=np.uint8)
    for frame, out in zip(frames, decoded.reshape(-1, 192, 256, 3), strict=True):
        error = np.mean((frame.astype(float) - out) ** 2)
        assert 10 * np.log10(255**2 / error) > 35


def test_a_frame_may_be_a_view(tmp_path: Path) -> None:
    a = write(tmp_path / "a.mp4", [NOISE[:, ::-1], NOISE[::-1]])
    b = write(tmp_path / "b.mp4", [np.ascontiguousarray(NOISE[:, ::-1]), NOISE[::-1].copy()])
    assert a.read_bytes() == b.read_bytes()


def test_the_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    one, two = (write(tmp_path / name, [NOISE] * 3, prompt="x").read_bytes() for name in ("1.mp4", "2.mp4"))
    assert one == two


@pytest.mark.parametrize("name", ["a b.mp4", "-y.mp4", "%03d.mp4", "城市 🙂.mp4", "a:b?#'\".mp4", "v.mp4.backup"])
def test_any_name_is_taken_as_it_is(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(Path(name), [NOISE], prompt="x")
    assert os.listdir() == [name]
    assert read_metadata(path) == {"prompt": "x"}
    assert probe_video(path).frames == 1


def test_memory_does_not_grow_with_the_number_of_frames(tmp_path: Path) -> None:
    frame_bytes = 512 * 512 * 3
    tracemalloc.start()
    with VideoWriter(tmp_path / "v.mp4", width=512, height=512, fps=16, metadata={}) as video:
        for value in range(60):
            video.write(np.full((512, 512, 3), value, dtype=np.uint8))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * frame_bytes


# --- whole, or under another name ---


def test_it_appears_only_when_whole(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    with VideoWriter(path, width=96, height=64, fps=16, metadata={}) as video:
        for _ in range(30):
            video.write(NOISE)
        assert not path.exists()
    assert os.listdir(tmp_path) == ["v.mp4"]


def test_an_exception_leaves_the_older_video_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "v.mp4", [NOISE])
    before = path.read_bytes()

    def interrupted() -> None:
        with VideoWriter(path, width=96, height=64, fps=16, metadata={}) as video:
            video.write(NOISE)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == before
    # The one frame that was written is kept: it may be the work of minutes.
    assert sorted(os.listdir(tmp_path)) == ["v-partial.mp4", "v.mp4"]
    assert len(shown(tmp_path / "v-partial.mp4")) == 1
    write(path, [NOISE])
    assert os.listdir(tmp_path) == ["v.mp4"], "what an earlier try left goes when the video is whole"


@pytest.mark.parametrize("count", [1, 30])
def test_an_exception_keeps_every_frame_written(tmp_path: Path, count: int) -> None:
    """Also those that the encoder held back: it is ended in order."""

    def interrupted() -> None:
        with VideoWriter(tmp_path / "v.mp4", width=96, height=64, fps=16, metadata={"prompt": "x"}) as video:
            for frame in moving_frames(count):
                video.write(frame)
            raise MemoryError

    with pytest.raises(MemoryError):
        interrupted()
    assert os.listdir(tmp_path) == ["v-partial.mp4"]
    assert list(shown(tmp_path / "v-partial.mp4")) == list(range(count))
    assert read_metadata(tmp_path / "v-partial.mp4") == {"prompt": "x"}


@pytest.mark.parametrize("frames_after", [0, 100])
def test_an_encoder_that_dies_is_reported(tmp_path: Path, frames_after: int) -> None:
    def without_encoder() -> None:
        with VideoWriter(tmp_path / "v.mp4", width=96, height=64, fps=16, metadata={}) as video:
            video.write(NOISE)
            video._process.kill()
            video._process.wait()
            for _ in range(frames_after):
                video.write(NOISE)

    with pytest.raises(UserError, match="encoder stopped with code -9"):
        without_encoder()
    assert os.listdir(tmp_path) == []


def test_no_frames_no_video(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match="No frame"),
        VideoWriter(tmp_path / "v.mp4", width=96, height=64, fps=16, metadata={}),
    ):
        pass
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("size", [(95, 64), (96, 63)])
def test_odd_sizes_are_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    with pytest.raises(UserError, match="even"):
        VideoWriter(tmp_path / "v.mp4", width=size[0], height=size[1], fps=16, metadata={})


@pytest.mark.parametrize("frame", [NOISE[:32], NOISE[..., :1], NOISE.astype(np.float32)])
def test_a_frame_of_another_shape_is_a_mistake(tmp_path: Path, frame: np.ndarray) -> None:
    video = VideoWriter(tmp_path / "v.mp4", width=96, height=64, fps=16, metadata={})
    with pytest.raises(ValueError, match="a frame must be"), video:
        video.write(frame)
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "missing", tmp_path / "file"):
        with pytest.raises(UserError) as caught:
            write(folder / "v.mp4", [NOISE])
        assert caught.value.message.id == "video.not_writable"


@pytest.mark.parametrize("room", [0.0, 0.1, 0.9])
def test_a_full_disk(tmp_path: Path, room: float) -> None:
    frames = list(np.random.default_rng(1).integers(0, 256, (60, 64, 96, 3), dtype=np.uint8))
    whole = write(tmp_path / "whole.mp4", frames)
    with small_disk(tmp_path / "disk", max(8, round(room * whole.stat().st_size / 4096) * 4)) as disk:
        (disk / "older.txt").write_text("kept")
        with pytest.raises(UserError) as caught:
            write(disk / "v.mp4", frames)
        said = caught.value.message
        assert said.id == "video.disk_full"
        assert said.params["free_mib"] < 1 < said.params["needed_mib"]
        # The frames that found room are kept, and nothing that does not play.
        kept = shown(disk / "v-partial.mp4") if (disk / "v-partial.mp4").exists() else {}
        assert sorted(os.listdir(disk)) == ["older.txt", "v-partial.mp4"][: 2 if kept else 1]
        assert kept.items() <= shown(whole).items()
        assert 60 * room - 15 <= len(kept) < 60
        assert (disk / "older.txt").read_text() == "kept"


def test_a_disk_without_room_for_the_last_copy(tmp_path: Path) -> None:
    frames = list(np.random.default_rng(1).integers(0, 256, (60, 64, 96, 3), dtype=np.uint8))
    whole = write(tmp_path / "whole.mp4", frames, prompt="x")
    with small_disk(tmp_path / "disk", round(1.5 * whole.stat().st_size / 4096) * 4) as disk:
        path = write(disk / "v.mp4", frames, prompt="x")
        assert os.listdir(disk) == ["v.mp4"]
        assert "moof" in boxes(path), "it is the video as it grew"
        assert shown(path) == shown(whole)
        assert read_metadata(path) == {"prompt": "x"}


def test_a_limit_on_file_size(tmp_path: Path) -> None:
    """The same where no disk can be mounted: the system ends the encoder when its file grows too long."""
    script = textwrap.dedent("""
        import resource, numpy as np
        from pathlib import Path
        from i2v.messages import UserError
        from i2v.video.writer import VideoWriter
        resource.setrlimit(resource.RLIMIT_FSIZE, (100 * 1024, resource.RLIM_INFINITY))
        try:
            with VideoWriter(Path("v.mp4"), width=256, height=256, fps=16, metadata={}) as video:
                for i in range(60):
                    video.write(np.random.default_rng(i).integers(0, 256, (256, 256, 3), dtype=np.uint8))
        except UserError as error:
            print(error.message.id)
    """)
    root = Path(__file__).parents[1]
    result = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert result.stdout.strip() == "video.disk_full", result.stderr
    # The frames that the limit let through are kept.
    assert os.listdir(tmp_path) == ["v-partial.mp4"]
    assert 0 < len(shown(tmp_path / "v-partial.mp4")) < 60
    assert (tmp_path / "v-partial.mp4").stat().st_size <= 100 * 1024
