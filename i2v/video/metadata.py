"""What stands in a finished mp4: the request it was made from, its size, rate and codec, and whether it is whole."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from i2v.messages import UserError
from i2v.request import GenerationRequest
from i2v.video import ffmpeg

_INPUT = ("-protocol_whitelist", "file,pipe", "-f", "mp4", "-i")
_STREAM = re.compile(r"Stream #.*?: Video: (\w+).*?, (\w+)[(,].*?, (\d+)x(\d+)[ ,].*? ([\d.]+) fps")
_SOUND = re.compile(r"^ +Stream #\d+:\d+.*?: Audio: .*?, (\d+) Hz", re.MULTILINE)
_BOXES = frozenset(b"ftyp moov mdat moof mfra free skip wide uuid udta meta sidx ssix styp prft pdin emsg".split())
_FRAMES = re.compile(r"^frame=\s*(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class VideoInfo:
    """An mp4's video stream: sizes in pixels, `fps` frames per second, `seconds` = frames / fps. `sound_hz`:
    samples per second of its sound; None without one."""

    width: int
    height: int
    fps: float
    frames: int
    codec: str
    pixel_format: str
    seconds: float
    sound_hz: int | None = None


def encode_metadata(metadata: Mapping[str, Any]) -> bytes:
    """`metadata` as an ffmetadata file whose `comment` is its JSON in UTF-8."""
    text = json.dumps(metadata, ensure_ascii=False, separators=(",", ":"))
    escaped = re.sub(r"([=;#\\\n])", r"\\\1", text)
    # Half a surrogate pair has no UTF-8; as a JSON escape it survives, its backslash doubled for ffmetadata.
    halves = re.sub(r"[\ud800-\udfff]", lambda half: rf"\\u{ord(half[0]):04x}", escaped)
    return f";FFMETADATA1\ncomment={halves}\n".encode()


def read_metadata(path: Path) -> dict[str, Any]:
    """The metadata that `VideoWriter` stored in the mp4 at `path`; UserError when there is none."""
    path = _existing(path)
    result = ffmpeg.run("-v", "error", *_INPUT, ffmpeg.file_url(path), "-f", "ffmetadata", "-")
    if result.returncode:
        raise _unreadable(path)
    comment = re.search(r"^comment=((?:[^\\\n]|\\.)*)$", result.stdout, re.MULTILINE | re.DOTALL)
    try:
        metadata = json.loads(re.sub(r"\\(.)", r"\1", comment[1], flags=re.DOTALL)) if comment else None
    except ValueError:
        metadata = None
    if not isinstance(metadata, dict):
        raise UserError("video.incomplete" if is_cut(path) else "video.no_metadata", file=path.name)
    return metadata


def read_made_here(path: Path) -> tuple[dict[str, Any], GenerationRequest]:
    """The metadata of the mp4 at `path` and the request in it; UserError where it holds none, whatever other program
    has written there."""
    metadata = read_metadata(path)
    try:
        return metadata, GenerationRequest.from_json(metadata["request"])
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise UserError("video.no_metadata", file=Path(path).name) from error


def is_cut(path: Path) -> bool:
    """Whether the file at `path` begins as an mp4 and ends before its boxes (ISO/IEC 14496-12) do."""
    kinds, at = [], 0
    with path.open("rb") as file:
        end = file.seek(0, 2)
        while at < end:
            file.seek(at)
            head = file.read(16)
            size, kind = int.from_bytes(head[:4]), head[4:8]
            size = {0: end - at, 1: int.from_bytes(head[8:])}.get(size, size)
            if kind not in _BOXES or size < 8:  # what stands behind the video, or a head that is cut
                break
            kinds.append(kind)
            at += size
    return kinds[:1] == [b"ftyp"] and (at > end or b"moov" not in kinds or b"mdat" not in kinds)


def probe_video(path: Path) -> VideoInfo:
    """Size, rate, length and codec of the mp4 at `path`, its frames counted; UserError when it is none."""
    path = _existing(path)
    found = probe(*_INPUT, ffmpeg.file_url(path))
    if found is None:
        raise _unreadable(path)
    return found


def probe(*source: str) -> VideoInfo | None:
    """As `probe_video`, of the mp4 that these words of ffmpeg's command line open; None when it is none."""
    result = ffmpeg.run(*source, "-map", "0:v:0", "-c", "copy", "-progress", "-", "-f", "null", "-")
    stream, sound = _STREAM.search(result.stderr), _SOUND.search(result.stderr)
    frames = _FRAMES.findall(result.stdout)
    if result.returncode or not stream or not frames:
        return None
    codec, pixel_format, width, height, fps = stream.groups()
    count, rate = int(frames[-1]), float(fps)
    return VideoInfo(
        int(width), int(height), rate, count, codec, pixel_format, count / rate, int(sound[1]) if sound else None
    )


def _unreadable(path: Path) -> UserError:
    return UserError("video.incomplete" if is_cut(path) else "video.not_a_video", file=path.name)


def _existing(path: Path) -> Path:
    path = Path(path)
    if not path.is_file():
        raise UserError("video.missing", file=str(path))
    return path
