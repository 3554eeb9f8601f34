"""What tests of videos share: frames that move, and what ffmpeg itself finds in a file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from i2v.video import ffmpeg
from i2v.video.picture import fit_picture, load_picture
from i2v.video.writer import VideoWriter
from tests.photos import photograph


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
