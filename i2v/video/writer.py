"""Frames in, one at a time; an mp4 that every browser plays out, and one that plays however early a run ends.

H.264 high profile, yuv420p, BT.709 converted and tagged. It grows as a fragmented mp4, one fragment for each frame,
and when it is whole the frames are copied into a plain one with the index in front (faststart), where its sound joins
them. One ffmpeg process by absolute path rather than `imageio_ffmpeg.write_frames`: that one drops ffmpeg's exit code
and its messages, and with them a full disk.
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from i2v.messages import UserError
from i2v.video import ffmpeg
from i2v.video.files import encoder_failed, not_written
from i2v.video.metadata import encode_metadata
from i2v.video.rescue import forget_growing, growing_path, index_first, partial_path, rescue, whole_fragments
from i2v.video.sound import Sound, sound_beside, write_wav
from i2v.whole_file import put_in_place

# Visually lossless for x264 and still a fraction of a lossless file. One less than would do with x264's own look-ahead
# of 40 frames: files are as large as with that, -12 to +10 %, and the worst frame as good (bench/video_lag.py).
CRF = 16
_LOOK_AHEAD = 6
_THREADS = 2  # not as many as there are cores: each holds one frame back, and the bytes would depend on the machine
LAG_FRAMES = _LOOK_AHEAD + _THREADS
"""How many of the frames written the encoder may hold back; all before them are in the file and play."""

_ENDING_SECONDS = 10.0  # for the encoder to put out what it holds back, when the run has failed already
RGB_TO_BT709 = (
    "scale=in_range=pc:out_range=tv:out_color_matrix=bt709:flags=bicubic+accurate_rnd+full_chroma_int,"
    "format=yuv420p,setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709"
)


class VideoWriter:
    """`with VideoWriter(path, width=512, height=512, fps=16, metadata={...}) as video: video.write(frame)`.

    The video grows at `growing_path(path)` and plays there, `LAG_FRAMES` behind what was written at most once the
    encoder has caught up; killed at any moment, it is for `rescue_video`. Whole and on the disk it appears at `path`,
    and nothing else stays. An error or an exception in the `with` block leaves an older file at `path` untouched and
    the frames so far at `partial_path(path)`. A disk without room for the last copy leaves the video at `path` as it
    grew: it plays, its index in pieces; one with sound is an error, since it would be silent. Holds one frame at a
    time, besides the encoder's look-ahead. Raises UserError for odd sizes, for a disk that is full or cannot be
    written, when no frame came, and when the encoder fails.
    """

    def __init__(self, path: Path, *, width: int, height: int, fps: float, metadata: Mapping[str, Any]) -> None:
        if width % 2 or height % 2:
            raise UserError("video.odd_size", width=width, height=height)
        if min(width, height, fps) <= 0:
            raise ValueError(f"size and rate must be positive: {width}x{height} at {fps} fps")
        self.path = Path(path)
        self.frames = 0
        self._shape = (height, width, 3)
        self._rate = Fraction(fps).limit_denominator(1001)
        self._metadata = encode_metadata(metadata)
        self._growing = growing_path(self.path)
        self._process: subprocess.Popen[bytes] | None = None
        self._work: tempfile.TemporaryDirectory[str] | None = None
        self._description: Path | None = None

    def __enter__(self) -> VideoWriter:
        try:
            # An encoder whose run was killed may still be writing there: it keeps that file, we begin another.
            forget_growing(self._growing)
            self._growing.touch()
            self._start()
        except OSError as error:
            self._clean_up()
            raise not_written(error, self._growing) from error
        except BaseException:
            self._clean_up()
            raise
        return self

    def write(self, frame: np.ndarray) -> None:
        """Append one frame: (height, width, 3) uint8, RGB."""
        if frame.shape != self._shape or frame.dtype != np.uint8:
            raise ValueError(f"a frame must be {self._shape} uint8, not {frame.shape} {frame.dtype}")
        assert self._process is not None, "write belongs inside the with block"
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(np.ascontiguousarray(frame).data)
            self._process.stdin.flush()
        except OSError as error:  # ffmpeg is gone; its exit code and last words say why
            raise self._failure(self._process.wait()) from error
        self.frames += 1

    def hear(self, sound: Sound) -> None:
        """The sound of the video: cut where its frames end, and silent where it is shorter than they are."""
        try:
            write_wav(sound_beside(self._growing), sound)
        except OSError as error:
            raise not_written(error, sound_beside(self._growing)) from error

    def describe(self, metadata: Mapping[str, Any]) -> None:
        """The metadata of the whole video, in place of what it was begun with, which a video that is not finished
        keeps; so does one that the disk has no room for a second copy of."""
        assert self._work is not None, "describe belongs inside the with block"
        self._description = Path(self._work.name) / "finished.ffmeta"
        self._description.write_bytes(encode_metadata(metadata))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
            else:
                self._end_encoder(_ENDING_SECONDS)
        finally:
            self._clean_up()

    def _start(self) -> None:
        self._work = tempfile.TemporaryDirectory(prefix="i2v-video-")
        # A file, not an argument: a long prompt exceeds what one argument may hold.
        request = Path(self._work.name) / "request.ffmeta"
        request.write_bytes(self._metadata)
        height, width, _ = self._shape
        frames_in = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(self._rate)]
        metadata_in = ["-f", "ffmetadata", "-i", ffmpeg.file_url(request)]
        encode = ["-vf", RGB_TO_BT709, "-c:v", "libx264", "-preset", "medium", "-crf", str(CRF), "-profile:v", "high"]
        # What x264 holds back is told by LAG_FRAMES only without a second look-ahead and at a constant rate.
        encode += ["-rc-lookahead", str(_LOOK_AHEAD), "-threads", str(_THREADS)]
        encode += ["-x264-params", "sync-lookahead=0:force-cfr=1"]
        # delay_moov: only with the first frame is it known how far B-frames shift the beginning.
        fragments = "+frag_every_frame+empty_moov+delay_moov+default_base_moof+skip_trailer"
        store = ["-flush_packets", "1", "-movflags", fragments, "-f", "mp4", "-y", ffmpeg.file_url(self._growing)]
        with self._log_path().open("wb") as log:
            self._process = subprocess.Popen(
                ffmpeg.command(
                    *("-v", "error", *frames_in, "-i", "pipe:0", *metadata_in),
                    *("-map", "0:v", "-map_metadata", "1", *encode, *store),
                ),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us: we end ffmpeg in order
            )

    def _log_path(self) -> Path:
        assert self._work is not None
        return Path(self._work.name) / "ffmpeg.log"

    def _finish(self) -> None:
        if not self.frames:
            raise UserError("video.no_frames")
        if code := self._end_encoder(None):
            raise self._failure(code)
        try:
            try:
                index_first(self._growing, self.path, whole_fragments(self._growing)[0], self._description)
            except UserError:  # no room for a second copy; the first is a whole video too
                if sound_beside(self._growing).exists():
                    raise  # but a silent one: what the model made is decoded again when there is room
                put_in_place(self._growing, self.path)
            forget_growing(self._growing)
            partial_path(self.path).unlink(missing_ok=True)  # of an earlier try
        except OSError as error:
            raise not_written(error, self._growing) from error

    def _end_encoder(self, seconds: float | None) -> int:
        """Have ffmpeg put out the frames it holds back; its exit code. After `seconds` it is ended by force."""
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # a broken pipe shows in the exit code
            self._process.stdin.close()
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _failure(self, code: int) -> UserError:
        """What to say of ffmpeg's exit code, from what it wrote to its log."""
        return encoder_failed(code, self._log_path().read_text("utf-8", "replace"), self._growing)

    def _clean_up(self) -> None:
        """End ffmpeg if it still runs and keep the frames of a video that is not finished, if there are any."""
        if self._process is not None:
            self._process.kill()
            self._end_encoder(None)
            self._process = None
        if self._work is not None:
            self._work.cleanup()
            self._work = None
        with contextlib.suppress(OSError, UserError):  # the folder itself may be gone or closed to us
            rescue(self._growing, partial_path(self.path))
