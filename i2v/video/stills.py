"""Single frames of a finished video, and small pictures for lists: each appears whole or not at all."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from i2v.messages import UserError
from i2v.video import ffmpeg
from i2v.video.files import encoder_failed, not_written
from i2v.video.metadata import is_cut, probe_video
from i2v.whole_file import whole_file

SMALL_PIXELS = 360
"""The longer side of a small picture."""

# As in reencode: our videos are BT.709, which ffmpeg does not assume by itself.
_TO_RGB = "scale=in_color_matrix=bt709:in_range=tv:out_range=pc:flags=bicubic+accurate_rnd+full_chroma_int"
_SMALL = f"scale={SMALL_PIXELS}:{SMALL_PIXELS}:force_original_aspect_ratio=decrease"


def first_frame(video: Path, target: Path, *, max_megapixels: float = 200) -> None:
    """Write the first frame of the mp4 at `video` as the PNG `target`. Raises UserError: no video, more than
    `max_megapixels` (10**6 pixels), a disk that is full or cannot be written."""
    info = probe_video(video)
    if info.width * info.height > max_megapixels * 1e6:
        megapixels = round(info.width * info.height / 1e6)
        raise UserError("video.too_large", file=video.name, megapixels=megapixels, limit=round(max_megapixels))
    _write_frame(video, target, 0, f"{_TO_RGB},format=rgb24", "png")


def last_frame(video: Path, target: Path) -> None:
    """Write the last frame of the mp4 at `video` as the PNG `target`. Raises UserError as `first_frame`."""
    _write_frame(video, target, probe_video(video).frames - 1, f"{_TO_RGB},format=rgb24", "png")


def small_frame(video: Path, target: Path) -> None:
    """Write the first frame, its longer side SMALL_PIXELS, as the WebP `target`. Raises UserError as `first_frame`."""
    _write_frame(video, target, 0, f"{_SMALL},{_TO_RGB},format=bgra", "libwebp")


def small_picture(picture: Path, target: Path) -> None:
    """Write the picture at `picture`, one of ours, with its longer side at most SMALL_PIXELS, as the WebP `target`.
    Raises OSError."""
    with whole_file(target) as part, Image.open(picture) as opened:
        opened.thumbnail((SMALL_PIXELS, SMALL_PIXELS))
        opened.convert("RGB").save(part, "WEBP")


def _write_frame(video: Path, target: Path, index: int, filters: str, encoder: str) -> None:
    """Frame `index`, from 0, through `filters`."""
    try:
        with whole_file(target) as part:
            made = ffmpeg.run(
                *("-v", "error", "-protocol_whitelist", "file,pipe", "-f", "mp4", "-i", ffmpeg.file_url(video)),
                *("-map", "0:v:0", "-vf", f"select=eq(n\\,{index}),{filters}", "-frames:v", "1", "-update", "1"),
                *("-c:v", encoder, "-f", "image2", "-y", ffmpeg.file_url(part)),
            )
            if made.returncode or not part.exists():
                failed = encoder_failed(made.returncode, made.stderr, part)
                full = failed.message.id == "video.disk_full"
                raise failed if full or not is_cut(video) else UserError("video.incomplete", file=video.name)
    except OSError as error:
        raise not_written(error, target) from error
