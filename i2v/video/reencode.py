"""A finished video in another format, at another rate or in other colours, from its frames: nothing is generated again.

Each frame stays a frame: another rate plays the same frames faster or slower.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Literal

from i2v.messages import UserError
from i2v.video import ffmpeg
from i2v.video.files import encoder_failed, not_written
from i2v.video.look import Look
from i2v.video.metadata import VideoInfo, probe_video
from i2v.video.sound import AAC, as_long_as, at_pace
from i2v.whole_file import whole_file

Format = Literal["mp4", "webm", "gif", "webp"]
Quality = Literal["small", "good", "best"]
FORMATS: tuple[Format, ...] = ("mp4", "webm", "gif", "webp")
QUALITIES: tuple[Quality, ...] = ("small", "good", "best")

NEUTRAL = Look()

GIF_MAX_FPS = 50
"""A GIF counts time in 1/100 s, and browsers slow down anything with less than 2/100 s for a frame."""

# Each encoder's own scale: CRF for x264 and VP9 (0 best), WebP's 0 to 100, colours of a GIF.
_SCALE: dict[Format, dict[Quality, int]] = {
    "mp4": {"small": 28, "good": 21, "best": 16},
    "webm": {"small": 42, "good": 32, "best": 20},
    "gif": {"small": 64, "good": 128, "best": 256},
    "webp": {"small": 50, "good": 75, "best": 92},
}
_BT709 = "setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709"
_TO_RGB = "scale=in_color_matrix=bt709:in_range=tv:out_range=pc:flags=bicubic+accurate_rnd+full_chroma_int"
_TO_YUV = "scale=out_color_matrix=bt709:in_range=pc:out_range=tv:flags=bicubic+accurate_rnd+full_chroma_inp"


def reencode(
    source: Path, target: Path, *, fps: float, format: Format, quality: Quality = "good", look: Look = NEUTRAL
) -> None:
    """Write the frames of the mp4 at `source` as `target` in `format`, `fps` frames per second, with `look`.

    mp4 is H.264 and webm VP9, both BT.709, with the metadata of `source` and its sound, which is as fast as the frames;
    gif and webp repeat for ever, in sRGB. `target` appears whole or not at all, and may be `source`. Raises UserError
    when `source` is no video, when a GIF cannot be that fast, for a disk that is full or cannot be written, and when
    the encoder fails.
    """
    if format not in FORMATS or quality not in QUALITIES or fps <= 0:
        raise ValueError(f"no way to write {format!r} with quality {quality!r} at {fps} fps")
    if format == "gif" and fps > GIF_MAX_FPS:
        raise UserError("video.gif_too_fast", fps=fps, limit=GIF_MAX_FPS)
    info = probe_video(source)
    rate = Fraction(fps).limit_denominator(1001)
    try:
        with whole_file(target) as part:
            made = ffmpeg.run(
                # A rate before the input: the frames are counted, their times in the file do not matter.
                *("-v", "error", "-protocol_whitelist", "file,pipe", "-f", "mp4", "-r", str(rate)),
                *("-i", ffmpeg.file_url(source), "-map", "0:v:0", *_sound(info, format, rate)),
                *("-map_metadata", "0" if format in ("mp4", "webm") else "-1"),
                *("-vf", _filter(format, quality, look), *_encoder(format, _SCALE[format][quality])),
                *("-f", format, "-y", ffmpeg.file_url(part)),
            )
            if made.returncode:
                raise encoder_failed(made.returncode, made.stderr, part)
    except OSError as error:
        raise not_written(error, target) from error


def _filter(format: Format, quality: Quality, look: Look) -> str:
    if format in ("mp4", "webm"):
        if look.neutral:
            return _BT709
        return f"{_TO_RGB},format=gbrp,{look.filters()},{_TO_YUV},format=yuv420p,{_BT709}"
    rgb = _TO_RGB if look.neutral else f"{_TO_RGB},format=gbrp,{look.filters()}"
    if format == "webp":  # libwebp takes YUV as BT.601; from RGB it converts by itself
        return f"{rgb},format=bgra"
    # Colours chosen for this clip; an ordered pattern does not crawl from frame to frame as diffused errors do.
    palette = f"palettegen=max_colors={_SCALE[format][quality]}:reserve_transparent=0:stats_mode=full"
    return f"{rgb},format=rgb24,split[a][b];[a]{palette}[p];[b][p]paletteuse=dither=bayer:bayer_scale=3"


def _sound(info: VideoInfo, format: Format, rate: Fraction) -> tuple[str, ...]:
    """The track of the sound: copied where nothing of it changes."""
    if info.sound_hz is None or format in ("gif", "webp"):
        return ()
    made = Fraction(info.fps).limit_denominator(1001)
    if format == "mp4" and rate == made:
        return "-map", "0:a:0", "-c:a", "copy"
    coded = AAC if format == "mp4" else ("-c:a", "libopus", "-b:a", "128k")
    return "-map", "0:a:0", *coded, "-af", f"{at_pace(rate / made)},{as_long_as(float(info.frames / rate))}"


def _encoder(format: Format, scale: int) -> list[str]:
    if format == "mp4":
        x264 = ["-c:v", "libx264", "-preset", "medium", "-profile:v", "high", "-crf", str(scale)]
        return [*x264, "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
    if format == "webm":
        vp9 = ["-c:v", "libvpx-vp9", "-crf", str(scale), "-b:v", "0", "-row-mt", "1", "-cpu-used", "2"]
        return [*vp9, "-pix_fmt", "yuv420p"]
    if format == "webp":
        return ["-c:v", "libwebp_anim", "-quality", str(scale), "-compression_level", "4", "-loop", "0"]
    return ["-loop", "0"]
