"""What a run that ended early leaves of its video, made one that plays.

While frames come, the video is a fragmented mp4 (`growing_path`): an index first, then one fragment for each frame,
so that it plays whenever its writing stops. `rescue` keeps its whole frames. Its sound lies beside it until then.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from i2v.messages import UserError
from i2v.video import ffmpeg
from i2v.video.files import encoder_failed, not_written
from i2v.video.metadata import probe
from i2v.video.sound import AAC, as_long_as, sound_beside, wav_input
from i2v.whole_file import put_in_place, whole_file


def growing_path(video: Path) -> Path:
    """Where `video` grows, hidden beside it: `.video.growing.mp4`. It plays as far as it goes."""
    return video.with_name(f".{video.stem}.growing{video.suffix}")


def partial_path(video: Path) -> Path:
    """What a run that ended early leaves of `video`: `video-partial.mp4`, beside it."""
    return video.with_name(f"{video.stem}-partial{video.suffix}")


def rescue_video(video: Path) -> int | None:
    """Keep what a dead run left of `video` at `partial_path`: the number of its frames, None when there is none.

    For whoever finds the folder of a process that was killed; does nothing where nothing was left. Raises UserError
    when the folder cannot be written.
    """
    growing = growing_path(video)
    try:
        # Killed between naming the whole video and removing what it was made from.
        if video.stat().st_mtime_ns >= growing.stat().st_mtime_ns:
            forget_growing(growing)
            return None
    except FileNotFoundError:
        pass
    except OSError as error:
        raise not_written(error, growing) from error
    return rescue(growing, partial_path(video))


def rescue(part: Path, target: Path) -> int | None:
    """Make the fragmented mp4 `part`, broken off anywhere, the video `target`; returns the number of its frames.

    Where `part` holds no whole frame it is removed, `target` is left alone, and the answer is None; so it is where
    there is no `part`. The frames are copied, not encoded again, and the index comes first; on a disk without room
    for a second copy `part` itself becomes `target`. Encoders store some frames before those they are shown after:
    of the last four, the ones between may be missing. Raises UserError when the folder cannot be written.
    """
    try:
        size, frames = whole_fragments(part)
        if not frames:
            forget_growing(part)
            return None
        try:
            index_first(part, target, size)
        except UserError:
            os.truncate(part, size)
            put_in_place(part, target)
        forget_growing(part)
    except OSError as error:
        raise not_written(error, target) from error
    return frames


def forget_growing(growing: Path) -> None:
    """Remove what grew at `growing`, and its sound. Raises OSError."""
    growing.unlink(missing_ok=True)
    sound_beside(growing).unlink(missing_ok=True)


def index_first(fragmented: Path, target: Path, size: int, metadata: Path | None = None) -> None:
    """Write the first `size` bytes of the fragmented mp4 as a plain one, index in front, all tags kept; or with those
    of the ffmetadata file `metadata` in their place. The sound that lies beside it becomes a track, as long as the
    frames.

    `target` appears whole or not at all. Raises UserError, and OSError from giving it its name.
    """
    source = ("-protocol_whitelist", "file,subfile", "-f", "mp4")
    source += ("-i", f"subfile,,start,0,end,{size},,:{ffmpeg.file_url(fragmented)}")
    tags = () if metadata is None else ("-f", "ffmetadata", "-i", ffmpeg.file_url(metadata))
    wav, heard, track = sound_beside(fragmented), (), ()
    if wav.is_file() and (info := probe(*source)) is not None:
        heard = wav_input(wav)
        track = ("-map", f"{2 if tags else 1}:a", *AAC, "-af", as_long_as(info.seconds))
    with whole_file(target) as part:
        copied = ffmpeg.run(
            *("-v", "error", *source, *tags, *heard, "-map_metadata", "1" if tags else "0"),
            *("-map", "0:v", "-c:v", "copy", *track),
            *("-movflags", "+faststart", "-f", "mp4", "-y", ffmpeg.file_url(part)),
        )
        if copied.returncode:
            raise encoder_failed(copied.returncode, copied.stderr, part)


def whole_fragments(path: Path) -> tuple[int, int]:
    """How far the fragmented mp4 is whole: bytes up to the end of its last whole fragment, and fragments.

    (0, 0) for a file that is missing or of another kind. Raises OSError.
    """
    whole_bytes = fragments = place = 0
    with suppress(FileNotFoundError, NotADirectoryError), path.open("rb") as file:
        length = os.fstat(file.fileno()).st_size
        while len(head := file.read(8)) == 8:
            box_bytes = int.from_bytes(head[:4])
            place += box_bytes
            if box_bytes < 8 or place > length:
                break
            if head[4:] == b"mdat":
                whole_bytes, fragments = place, fragments + 1
            file.seek(place)
    return whole_bytes, fragments
