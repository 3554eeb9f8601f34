"""A picture as it comes out of a video's compression: some models learned from frames of compressed videos, and make a
picture that is too clean hardly move."""

from __future__ import annotations

import tempfile
from pathlib import Path

from PIL import Image

from i2v.video import ffmpeg
from i2v.video.files import encoder_failed


def compressed(picture: Image.Image, crf: int) -> Image.Image:
    """An RGB picture with even sides, once through H.264 with this `crf`. Raises UserError where the encoder fails."""
    with tempfile.TemporaryDirectory(prefix="i2v-compressed-") as work:
        source, film, target = (Path(work) / name for name in ("before.rgb", "film.mp4", "after.rgb"))
        source.write_bytes(picture.tobytes())
        raw = ("-f", "rawvideo", "-pix_fmt", "rgb24")
        for words, made in (
            ((*raw, "-s", f"{picture.width}x{picture.height}", "-r", "1", "-i", ffmpeg.file_url(source),
              "-c:v", "libx264", "-preset", "veryfast", "-crf", str(crf), "-pix_fmt", "yuv420p"), film),
            (("-i", ffmpeg.file_url(film), *raw), target),
        ):  # fmt: skip
            ran = ffmpeg.run("-v", "error", *words, "-y", ffmpeg.file_url(made))
            if ran.returncode:
                raise encoder_failed(ran.returncode, ran.stderr, made)
        return Image.frombytes("RGB", picture.size, target.read_bytes())
