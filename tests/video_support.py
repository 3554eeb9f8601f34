"""What tests of videos share: frames that move, and what ffmpeg itself finds in a file."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from i2v.video import ffmpeg
from i2v.video.picture import fit_picture, load_picture
from i2v.video.writer import VideoWriter
from tests.photos import photograph

RATE = 24000  # samples per second that `heard` gives


def moving_frames(count: int, width: int = 96, height: int = 64) -> list[np.ndarray]:
    """A slow pan over a photograph: the encoder puts B-frames between, as it does in real clips."""
    photo = np.asarray(fit_picture(load_picture(photograph()), width + count, height, "crop"))
    return [photo[:, index : index + width] for index in range(count)]


def write_video(path: Path, frames: list[np.ndarray], fps: float = 16, **metadata: object) -> Path:
    height, width, _ = frames[0].shape
    with VideoWriter(path, width=width, height=height, fps=fps, metadata=metadata) as video:
        for frame in frames:
            video.write(frame)
    return path


def shown(path: Path) -> dict[int, str]:
    """ffmpeg's own decoding, with an error for anything broken: MD5 of each frame by its place in the clip."""
    result = ffmpeg.run(
        *("-v", "error", "-xerror", "-err_detect", "explode", "-i", os.fspath(path)),
        *("-fps_mode", "passthrough", "-f", "framemd5", "-"),
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    rows = [line.split(",") for line in result.stdout.splitlines() if not line.startswith("#")]
    frames = {int(row[2]): row[5].strip() for row in rows}
    assert len(frames) == len(rows), "two frames at one moment"
    return frames


def film(path: Path, *output: str, size: str = "96x64", rate: str = "16", seconds: float = 2) -> Path:
    """A test pattern that changes with every frame as the film `path`, written by ffmpeg with the options `output`."""
    pattern = f"testsrc2=size={size}:rate={rate}:duration={seconds}"
    made = ffmpeg.run("-v", "error", "-f", "lavfi", "-i", pattern, "-threads", "1", *output, "-y", os.fspath(path))
    assert made.returncode == 0, made.stderr
    return path


def heard(path: Path, rate: int = RATE) -> np.ndarray:
    """(channels, n): what ffmpeg decodes of the sound; nothing of a clip without."""
    raw = path.with_suffix(".raw")
    ran = ffmpeg.run("-v", "error", "-i", os.fspath(path), "-map", "0:a", "-ar", str(rate), "-ac", "2", "-f", "f32le",
                     "-y", os.fspath(raw))  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    samples = np.fromfile(raw, dtype="<f4").reshape(-1, 2).T
    raw.unlink()
    return samples


@contextmanager
def small_disk(folder: Path, kib: int) -> Iterator[Path]:
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"needs the right to mount a small disk: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
