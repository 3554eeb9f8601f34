"""Frames in, one at a time; an mp4 that every browser plays out, whole or not at all.

H.264 high profile, yuv420p, BT.709 converted and tagged, index in front (faststart). One ffmpeg process by absolute
path rather than `imageio_ffmpeg.write_frames`: that one drops ffmpeg's exit code and its messages, and with them a
full disk.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
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
from i2v.video.metadata import encode_metadata

# 17 is visually lossless for x264 and still a fraction of a lossless file.
CRF = 17
_MIB = 2**20
_RGB_TO_BT709 = (
    "scale=in_range=pc:out_range=tv:out_color_matrix=bt709:flags=bicubic+accurate_rnd+full_chroma_int,"
    "format=yuv420p,setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709"
)
_DISK_FULL_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class VideoWriter:
    """`with VideoWriter(path, width=512, height=512, fps=16, metadata={...}) as video: video.write(frame)`.

    The file grows under a hidden name beside `path` and takes its name once it is whole and on the disk; an error
    or an exception in the `with` block leaves nothing behind and an older file at `path` untouched. Holds one frame
    at a time, besides the encoder's own look-ahead. Raises UserError for odd sizes, for a disk that is full or cannot
    be written, when no frame came, and when the encoder fails.
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
        self._part = self.path.with_name(f".{self.path.name}.part")
        self._process: subprocess.Popen[bytes] | None = None
        self._work: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> VideoWriter:
        try:
            self._part.touch()
            self._start()
        except OSError as error:
            self._discard()
            raise self._not_written(error) from error
        except BaseException:
            self._discard()
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
        except OSError as error:  # ffmpeg is gone; its exit code and last words say why
            raise self._failure(self._process.wait()) from error
        self.frames += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._discard()

    def _start(self) -> None:
        self._work = tempfile.TemporaryDirectory(prefix="i2v-video-")
        # A file, not an argument: a long prompt exceeds what one argument may hold.
        request = Path(self._work.name) / "request.ffmeta"
        request.write_bytes(self._metadata)
        height, width, _ = self._shape
        frames_in = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(self._rate)]
        metadata_in = ["-f", "ffmetadata", "-i", ffmpeg.file_url(request)]
        encode = ["-vf", _RGB_TO_BT709, "-c:v", "libx264", "-preset", "medium", "-crf", str(CRF), "-profile:v", "high"]
        store = ["-movflags", "+faststart", "-f", "mp4", "-y", ffmpeg.file_url(self._part)]
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
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # a broken pipe shows in the exit code
            self._process.stdin.close()
        code = self._process.wait()
        if code:
            raise self._failure(code)
        try:
            _sync(self._part)
            os.replace(self._part, self.path)
            _sync(self.path.parent)
        except OSError as error:
            raise self._not_written(error) from error

    def _failure(self, code: int) -> UserError:
        """What to say of ffmpeg's exit code, from what it wrote to its log."""
        words = self._log_path().read_text("utf-8", "replace").strip()
        if code == -signal.SIGXFSZ or any(os.strerror(number) in words for number in _DISK_FULL_ERRORS):
            return self._disk_full()
        return UserError("video.encoder_failed", code=code, reason=words.splitlines()[-1] if words else "")

    def _not_written(self, error: OSError) -> UserError:
        if error.errno in _DISK_FULL_ERRORS:
            return self._disk_full()
        return UserError("video.not_writable", folder=str(self.path.parent), reason=error.strerror or str(error))

    def _disk_full(self) -> UserError:
        written = self._part.stat().st_size if self._part.exists() else 0
        return UserError(
            "video.disk_full",
            folder=str(self.path.parent),
            written_mib=round(written / _MIB, 1),
            free_mib=round(shutil.disk_usage(self.path.parent).free / _MIB, 1),
            # What the frames so far took, twice over, and never less than a short clip needs.
            needed_mib=max(16, round(2 * written / _MIB)),
        )

    def _discard(self) -> None:
        """End ffmpeg if it still runs and remove what is not finished. After success there is nothing to remove."""
        if self._process is not None:
            self._process.kill()
            with contextlib.suppress(OSError):
                self._process.stdin.close()
            self._process.wait()
            self._process = None
        if self._work is not None:
            self._work.cleanup()
            self._work = None
        with contextlib.suppress(OSError):  # the folder itself may be gone or closed to us
            self._part.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
