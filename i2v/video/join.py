"""One video after another, without coding the frames of either anew."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from i2v.messages import UserError
from i2v.video import ffmpeg
from i2v.video.files import encoder_failed, not_written
from i2v.video.metadata import VideoInfo, probe_video
from i2v.video.sound import AAC, as_long_as
from i2v.whole_file import whole_file


def put_before(earlier: Path, video: Path) -> int:
    """Make the mp4 at `video` begin with every frame of the mp4 `earlier`; how many frames it then has. Its metadata
    stays its own. Where one of them has sound the other is silent for its time. It appears whole or stays as it was.

    Raises UserError where the two differ in size, rate or coding, and for a disk that is full or cannot be written."""
    before, after = probe_video(earlier), probe_video(video)
    if _alike(before) != _alike(after):
        raise UserError(
            "video.not_joined", file=earlier.name, size=f"{before.width}x{before.height}", fps=f"{before.fps:g}",
            other_size=f"{after.width}x{after.height}", other_fps=f"{after.fps:g}",
        )  # fmt: skip
    try:
        with tempfile.TemporaryDirectory(prefix="i2v-join-") as work, whole_file(video) as part:
            # A list of plain names: what a path holds means nothing to ffmpeg then.
            for name, source in (("0.mp4", earlier), ("1.mp4", video)):
                Path(work, name).symlink_to(source.absolute())
            listed = Path(work, "list.txt")
            listed.write_text("ffconcat version 1.0\nfile 0.mp4\nfile 1.mp4\n", encoding="utf-8")
            made = ffmpeg.run(
                *("-v", "error", "-protocol_whitelist", "file", "-f", "concat", "-i", ffmpeg.file_url(listed)),
                *("-f", "mp4", "-i", ffmpeg.file_url(video), *_sounds(earlier, before, after)),
                *("-map", "0:v:0", "-map_metadata", "1", "-c:v", "copy"),
                *("-movflags", "+faststart", "-f", "mp4", "-y", ffmpeg.file_url(part)),
            )
            if made.returncode:
                raise encoder_failed(made.returncode, made.stderr, part)
    except OSError as error:
        raise not_written(error, video) from error
    return before.frames + after.frames


def _alike(info: VideoInfo) -> VideoInfo:
    """All but the length and the sound."""
    return replace(info, frames=0, seconds=0.0, sound_hz=None)


def _sounds(earlier: Path, before: VideoInfo, after: VideoInfo) -> tuple[str, ...]:
    """The sound of `earlier`, which becomes the third input of ffmpeg, and then that of the second, each as long as its
    frames; nothing where neither has any."""
    rate = after.sound_hz or before.sound_hz
    if rate is None:
        return ()
    parts = []
    for number, info in ((2, before), (1, after)):
        source = f"[{number}:a:0]" if info.sound_hz else f"anullsrc=r={rate},"
        alike = f"aresample={rate},aformat=channel_layouts=stereo,{as_long_as(info.seconds)}"
        parts.append(f"{source}{alike}[part{number}]")
    graph = ";".join([*parts, "[part2][part1]concat=n=2:v=0:a=1[sound]"])
    return "-f", "mp4", "-i", ffmpeg.file_url(earlier), "-filter_complex", graph, "-map", "[sound]", *AAC
