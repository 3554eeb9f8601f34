"""A video that a new one is made from: what is known of its file, and its frames for a run.

ffmpeg reads it as players show it: turned upright, its pixels made square, deinterlaced, each frame at its time.
Nothing but this one file is opened, whatever the file says; what is too large, too long to read or no video is refused
in plain words.
"""

from __future__ import annotations

import math
import re
import subprocess
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from pathlib import Path
from typing import overload

from PIL import Image

from i2v.messages import UserError
from i2v.request import Fit
from i2v.video import ffmpeg
from i2v.video.clip_frames import Treatment, treatment_of
from i2v.video.metadata import is_cut
from i2v.video.picture import fit_picture

MAX_MEGAPIXELS = 36.0
"""Of one frame, 10**6 pixels: 8K still fits."""

MAX_BYTES = 4 * 2**30
MAX_SECONDS = 600
"""Of a clip only so much is looked at: what comes later is in no video."""

_MAX_PACKETS = 200_000
_LOOK_SECONDS = 60.0
_READ_SECONDS = 600.0

_ENDING = {
    "mov,mp4,m4a,3gp,3g2,mj2": ".mp4",
    "matroska,webm": ".mkv",
    "avi": ".avi",
    "mpegts": ".ts",
    "mpeg": ".mpg",
    "ogg": ".ogv",
    "flv": ".flv",
    "asf": ".wmv",
}
"""The kinds of files that hold films, as ffmpeg calls them. It knows more, but those name other files or are
pictures."""

_KIND = re.compile(r"^\[info\] Input #0, (\S+), from ", re.MULTILINE)
_SIZE = re.compile(r"^#dimensions 0: (\d+)x(\d+)$", re.MULTILINE)
_PIXEL = re.compile(r"^#sar 0: (\d+)/(\d+)$", re.MULTILINE)
_TIME_UNIT = re.compile(r"^#tb 0: (\d+)/(\d+)$", re.MULTILINE)
_PACKET = re.compile(r"^0, +-?\d+, +(-?\d+), +(\d+),", re.MULTILINE)
_CUT = re.compile(r"partial file|ended prematurely")


@dataclass(frozen=True)
class ClipFacts:
    """A clip as it is shown: upright, in square pixels. `frames` and `seconds` are counted up to MAX_SECONDS; `fps` is
    the rate on average. `suffix`: the ending for a file of its kind."""

    width: int
    height: int
    frames: int
    fps: float
    seconds: float
    suffix: str

    def frames_at(self, fps: float) -> int:
        """How many frames it gives when it is looked at `fps` times a second."""
        # Some files count time in thousandths of a second: a clip of 30 frames lasts one second, or a little more.
        return max(0, math.ceil(self.seconds * fps - 0.1))


def clip_facts(path: Path, *, max_megapixels: float = MAX_MEGAPIXELS) -> ClipFacts:
    """What is known of the clip at `path`; its first frame has been read. A second or so
    for each gigabyte, and nothing for a file that was looked at before and has not changed.

    Raises UserError for what is no film, has no picture in it or only one, is cut short or damaged, or is larger than
    `max_megapixels`, MAX_BYTES or the time that reading may take.
    """
    return _look(Path(path), max_megapixels)[0]


def _look(path: Path, max_megapixels: float = MAX_MEGAPIXELS) -> tuple[ClipFacts, Treatment]:
    """As `clip_facts`; and how its frames are to be treated."""
    _check_file(path)
    state = path.stat()
    return _looked_at(path, max_megapixels, (state.st_mtime_ns, state.st_size))


@lru_cache(maxsize=64)
def _looked_at(path: Path, max_megapixels: float, _state: tuple[int, int]) -> tuple[ClipFacts, Treatment]:
    told = _ffmpeg(path, "-v", "level+info", output=("-map", "0:V:0", "-c", "copy", "-frames:v", str(_MAX_PACKETS)))
    kind = _KIND.search(told.stderr)
    if kind is None or kind[1] not in _ENDING:
        raise UserError("video.incomplete" if is_cut(path) else "clip.unknown", file=path.name)
    if _CUT.search(told.stderr):
        raise UserError("video.incomplete", file=path.name)
    if "matches no streams" in told.stderr:
        raise UserError("clip.only_sound", file=path.name)
    _check_size(path, told.stdout, max_megapixels)
    unit = _fraction(_TIME_UNIT, told.stdout)
    shown = [(int(begin), int(lasts)) for begin, lasts in _PACKET.findall(told.stdout) if int(begin) >= 0]
    if told.returncode or not shown or not unit:
        raise _broken(path)
    if len(shown) == 1:
        raise UserError("clip.one_picture", file=path.name)
    first = _ffmpeg(path, "-v", "quiet", output=("-map", "0:V:0", "-vf", _SQUARE, "-frames:v", "1"))
    size = _SIZE.search(first.stdout)
    if first.returncode or not size or not _PACKET.search(first.stdout):
        raise _broken(path)
    begins = min(begin for begin, _ in shown)
    last, lasts = max(shown)
    seconds = float((last + lasts - begins) * unit)
    if seconds <= 0:
        raise _broken(path)
    suffix = _suffix(path, kind[1])
    facts = ClipFacts(int(size[1]), int(size[2]), len(shown), len(shown) / seconds, seconds, suffix)
    return facts, treatment_of(told.stderr, min(facts.width, facts.height))


def read_clip(path: Path, width: int, height: int, num_frames: int, fps: float, fit: Fit) -> list[Image.Image]:
    """The first `num_frames` frames of the clip at `path` when it is looked at `fps` times a second, RGB, each at
    exactly `width` x `height` as `fit_picture` makes it.

    Raises UserError as `clip_facts` does, and where the clip is shorter.
    """
    path = Path(path)
    facts, treatment = _look(path)
    most = facts.frames_at(fps)
    if num_frames > most:
        raise too_short(path.name, facts, num_frames, fps, most)
    rate = Fraction(fps).limit_denominator(1001)
    # A size that changes in the middle is brought to that of the beginning.
    one_size = f"scale={facts.width}:{facts.height}:{_SCALING}{treatment.colours},setsar=1"
    fields = _DEINTERLACED if treatment.interlaced else ""
    filters = f"{fields}{_FROM_ZERO},fps={rate}:round=up,{one_size}"
    read = _frames(path, filters, (facts.width, facts.height), num_frames)
    frames = [fit_picture(frame, width, height, fit) for frame in read]
    if len(frames) < num_frames:
        raise _broken(path)
    return frames


def shrunk_frames(path: Path, long_side: int) -> Iterator[Image.Image]:
    """Every frame of the clip at `path` in turn, RGB, brought to `long_side` pixels where it is larger: quick, and one
    frame in memory. Raises UserError as `clip_facts` does, and where reading takes too long."""
    facts, treatment = _look(path)
    scale = min(1.0, long_side / max(facts.width, facts.height))
    width, height = max(1, round(facts.width * scale)), max(1, round(facts.height * scale))
    area = _SCALING.replace("bicubic", "area")
    fields = _DEINTERLACED if treatment.interlaced else ""
    yield from _frames(path, f"{fields}scale={width}:{height}:{area}{treatment.colours}", (width, height), _MAX_PACKETS)


def _frames(path: Path, filters: str, size: tuple[int, int], most: int) -> Iterator[Image.Image]:
    """The frames that `filters` make of the clip, each of `size`, up to `most` of them."""
    size_bytes = size[0] * size[1] * 3
    output = ("-map", "0:V:0", "-vf", filters, "-frames:v", str(most), "-fps_mode", "passthrough")
    process = subprocess.Popen(
        ffmpeg.command("-v", "quiet", *_input(path), *output, "-pix_fmt", "rgb24", "-f", "rawvideo", "-"),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    ended = threading.Event()
    watch = threading.Timer(_READ_SECONDS, lambda: (ended.set(), process.kill()))
    watch.daemon = True
    read = 0
    try:
        watch.start()
        assert process.stdout is not None
        while read < most and len(data := process.stdout.read(size_bytes)) == size_bytes:
            read += 1
            yield Image.frombytes("RGB", size, data)
    finally:
        watch.cancel()
        process.kill()
        if process.stdout is not None:
            process.stdout.close()
        process.wait()
    if read < most and ended.is_set():
        raise _too_slow(path)


def too_short(name: str, facts: ClipFacts, num_frames: int, fps: float, most: int) -> UserError:
    """What to say of a clip that is too short for `num_frames`, where at most `most` can be made of it."""
    return UserError(
        "clip.too_short", file=name, seconds=round(facts.seconds, 2), frames=num_frames, fps=fps, most=most
    )


class ClipFrames(Sequence[Image.Image]):
    """The frames of `read_clip`, read when the first of them is looked at: their number is known before."""

    def __init__(self, path: Path, width: int, height: int, num_frames: int, fps: float, fit: Fit) -> None:
        self._asked = path, width, height, num_frames, fps, fit
        self._length = num_frames

    @cached_property
    def _frames(self) -> list[Image.Image]:
        return read_clip(*self._asked)

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> Image.Image: ...
    @overload
    def __getitem__(self, index: slice) -> list[Image.Image]: ...
    def __getitem__(self, index: int | slice) -> Image.Image | list[Image.Image]:
        return self._frames[index]


# What is shown at a moment is the last frame that began by then. Files that count milliseconds may have it begin one
# later than it does.
_FROM_ZERO = "settb=1/1000000,setpts=PTS-STARTPTS-1500"
_DEINTERLACED = "bwdif=mode=send_frame:deint=interlaced,"
_SCALING = "flags=bicubic+accurate_rnd+full_chroma_int"
_SQUARE = f"scale=w=max(1\\,round(iw*sar)):h=ih:{_SCALING},setsar=1"


def _input(path: Path) -> tuple[str, ...]:
    """How ffmpeg is to read `path`: as one of the kinds that are known, with no other file or address, and nothing that
    is larger than it may be."""
    kinds = ",".join(kind.partition(",")[0] for kind in _ENDING)
    allowed = ("-protocol_whitelist", "file,pipe", "-format_whitelist", kinds)
    limits = ("-max_pixels", str(int(MAX_MEGAPIXELS * 1e6)), "-t", str(MAX_SECONDS))
    return (*allowed, *limits, "-threads", "2", "-fflags", "+genpts", "-i", ffmpeg.file_url(path))


def _ffmpeg(path: Path, *options: str, output: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """What ffmpeg lists of the clip: a line for each packet or frame with its time, below a few about all of them."""
    try:
        return ffmpeg.run(*options, *_input(path), *output, "-f", "framecrc", "-", timeout_seconds=_LOOK_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise _too_slow(path) from error


def _check_file(path: Path) -> None:
    try:
        if path.is_dir():
            raise UserError("clip.folder", file=str(path))
        if not path.is_file():
            raise UserError("video.missing", file=str(path))
        size = path.stat().st_size
        with path.open("rb"):
            pass
    except (OSError, ValueError) as error:  # too long a name, a NUL in it, a file we may not read
        raise UserError("clip.unreadable", file=path.name) from error
    if size == 0:
        raise UserError("clip.empty", file=path.name)
    if size > MAX_BYTES:
        raise UserError("clip.too_heavy", file=path.name, gib=round(size / 2**30, 1), limit=MAX_BYTES // 2**30)


def _check_size(path: Path, listed: str, max_megapixels: float) -> None:
    """By what the file says, before a frame of it is made."""
    size = _SIZE.search(listed)
    if size is None:
        return
    pixel = _fraction(_PIXEL, listed) or Fraction(1)
    megapixels = int(size[1]) * int(size[2]) * max(pixel, 1 / pixel) / 1_000_000
    if megapixels > max_megapixels:
        shown = max(round(float(megapixels)), round(max_megapixels) + 1)
        raise UserError("video.too_large", file=path.name, megapixels=shown, limit=round(max_megapixels))


def _fraction(pattern: re.Pattern[str], listed: str) -> Fraction | None:
    """What stands there, None for nothing or 0."""
    found = pattern.search(listed)
    return Fraction(int(found[1]), int(found[2])) if found and int(found[1]) and int(found[2]) else None


def _suffix(path: Path, kind: str) -> str:
    """The ending of a file of this kind; of those that share one by how the file begins."""
    with path.open("rb") as file:
        head = file.read(64)
    if kind.startswith("mov") and head[4:12] == b"ftypqt  ":
        return ".mov"
    if kind.startswith("matroska") and b"webm" in head:
        return ".webm"
    return _ENDING[kind]


def _broken(path: Path) -> UserError:
    return UserError("video.incomplete" if is_cut(path) else "clip.broken", file=path.name)


def _too_slow(path: Path) -> UserError:
    return UserError("clip.too_slow", file=path.name)
