"""What it costs that a video plays while it grows: frames held back, size and likeness.

    python -m bench.video_lag [clip.mp4 ...]

Encodes a pan with zoom over a photograph, noise in motion, and the clips given, by `VideoWriter` and by x264 as it
comes (medium, CRF 17, look-ahead of 40 frames), which holds a short clip back to its end. Prints a table, writes
bench/results/video_lag.json, exits 1 when more frames are held back than `LAG_FRAMES`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from statistics import mean

import numpy as np

from i2v.video import ffmpeg
from i2v.video.picture import load_picture
from i2v.video.rescue import growing_path, whole_fragments
from i2v.video.writer import LAG_FRAMES, RGB_TO_BT709, VideoWriter

WIDTH, HEIGHT, FRAMES = 512, 320, 48
SETTLED_SECONDS = 0.3  # without a new frame in the file, the encoder waits for more
RESULTS = Path(__file__).parent / "results" / "video_lag.json"


def zoom() -> list[np.ndarray]:
    spec = find_spec("gradio")
    assert spec is not None
    assert spec.origin is not None
    photo = load_picture(Path(spec.origin).parent / "media_assets" / "images" / "cheetah.jpg")
    photo = photo.resize((2 * WIDTH, 2 * HEIGHT))
    boxes = [(2 * i, 2 * i, 2 * WIDTH - 3 * i, 2 * HEIGHT - 2 * i) for i in range(FRAMES)]
    return [np.asarray(photo.resize((WIDTH, HEIGHT), box=box)) for box in boxes]


def grain() -> list[np.ndarray]:
    """The worst for any encoder: what moves has no likeness to anything."""
    noise = np.random.default_rng(0).integers(96, 160, (HEIGHT + FRAMES, WIDTH, 3), dtype=np.uint8)
    still = np.random.default_rng(1)
    return [noise[i : i + HEIGHT] // 2 + still.integers(0, 32, (HEIGHT, WIDTH, 3), dtype=np.uint8) for i in range(16)]


def clip(path: Path) -> list[np.ndarray]:
    return list(_decoded(path)[:FRAMES])


def _decoded(path: Path) -> np.ndarray:
    """(F, HEIGHT, WIDTH, 3) uint8."""
    size = ("-vf", f"scale={WIDTH}:{HEIGHT}:in_color_matrix=bt709:flags=bicubic+accurate_rnd+full_chroma_int")
    command = ffmpeg.command(
        *("-v", "error", "-i", str(path), *size, "-fps_mode", "passthrough"),
        *("-pix_fmt", "rgb24", "-f", "rawvideo", "-"),
    )
    data = subprocess.run(command, capture_output=True, check=True).stdout
    return np.frombuffer(data, dtype=np.uint8).reshape(-1, HEIGHT, WIDTH, 3)


def by_writer(frames: list[np.ndarray], path: Path) -> None:
    with VideoWriter(path, width=WIDTH, height=HEIGHT, fps=16, metadata={}) as video:
        for frame in frames:
            video.write(frame)


def by_x264(frames: list[np.ndarray], path: Path) -> None:
    command = ffmpeg.command(
        *("-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{WIDTH}x{HEIGHT}", "-r", "16", "-i", "pipe:0"),
        *("-vf", RGB_TO_BT709, "-c:v", "libx264", "-preset", "medium", "-crf", "17", "-profile:v", "high"),
        *("-movflags", "+faststart", "-f", "mp4", "-y", str(path)),
    )
    subprocess.run(command, input=b"".join(frame.tobytes() for frame in frames), check=True)


def held_back(frames: list[np.ndarray], path: Path) -> int:
    """The most frames missing in the file once the encoder waits for more."""
    worst = 0
    with VideoWriter(path, width=WIDTH, height=HEIGHT, fps=16, metadata={}) as video:
        for written, frame in enumerate(frames, start=1):
            video.write(frame)
            if written % 4 == 0:
                worst = max(worst, written - _settled(growing_path(path)))
    return worst


def _settled(path: Path) -> int:
    count, since = -1, time.monotonic()
    while time.monotonic() - since < SETTLED_SECONDS:
        if (now := whole_fragments(path)[1]) != count:
            count, since = now, time.monotonic()
        time.sleep(0.02)
    return count


def measured(frames: list[np.ndarray], path: Path) -> dict[str, float]:
    """Size, and PSNR of the whole clip and of its worst frame."""
    errors = [float(np.mean((a.astype(float) - b) ** 2)) for a, b in zip(frames, _decoded(path), strict=True)]
    size = path.stat().st_size / 1024
    return {"kib": round(size, 1), "psnr_db": _psnr(mean(errors)), "worst_db": _psnr(max(errors))}


def _psnr(error: float) -> float:
    return round(float(10 * np.log10(255**2 / error)), 2)


def main() -> int:
    clips = {"zoom": zoom(), "grain": grain(), **{path: clip(Path(path)) for path in sys.argv[1:]}}
    results: dict[str, dict[str, object]] = {}
    print(f"{'clip':24} {'held back':>9} | {'KiB':>8} {'PSNR':>6} {'worst':>6} | as x264 comes: KiB, PSNR, worst")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "v.mp4"
        for name, frames in clips.items():
            by_writer(frames, path)
            ours = measured(frames, path)
            by_x264(frames, path)
            stock = measured(frames, path)
            held = held_back(frames[:24], path)
            short = Path(name).name
            results[short] = {"held_back_frames": held, "ours": ours, "x264": stock}
            told = " ".join(f"{value:8.2f}" for value in stock.values())
            print(f"{short:24} {held:9} | {' '.join(f'{value:7.2f}' for value in ours.values())} | {told}", flush=True)
    RESULTS.write_text(json.dumps({"lag_frames": LAG_FRAMES, "clips": results}, indent=2) + "\n")
    return int(any(clip_["held_back_frames"] > LAG_FRAMES for clip_ in results.values()))  # type: ignore[operator]


if __name__ == "__main__":
    sys.exit(main())
