"""A finished job's video as other files in its folder: another format, rate, quality or look. No worker is asked."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from i2v.jobs.asked.prepare import MAX_FPS
from i2v.messages import UserError
from i2v.settings.values import Choice, Number, listed, nearest, shown
from i2v.video.look import LIMITS, Look
from i2v.video.reencode import FORMATS, QUALITIES, Format, Quality, reencode

EXPORT_KEYS = ("format", "fps", "quality", *LIMITS)
KEPT = 24
"""How many such files a job keeps, those asked for last: whoever tries out looks must not fill the disk."""

_ONE_AT_A_TIME = threading.Lock()


def export(video: Path, made_fps: float, values: Mapping[str, Any]) -> Path:
    """`video`, made at `made_fps`, as EXPORT_KEYS in `values` ask for, beside it; at once where it is there already.
    What is left out or None stays as it is. Raises UserError."""
    for name in values:
        if name not in EXPORT_KEYS:
            near = nearest(name, EXPORT_KEYS)
            if near:
                raise UserError("request.unknown_key_near", key=shown(name), near=near)
            raise UserError("request.unknown_key", key=shown(name), known=listed(EXPORT_KEYS))
    given = {name: value for name, value in values.items() if value is not None}
    format: Format = Choice(FORMATS).parse(given.get("format", "mp4"), "format")  # type: ignore[assignment]
    quality: Quality = Choice(QUALITIES).parse(given.get("quality", "good"), "quality")  # type: ignore[assignment]
    fps = round(Number(1, MAX_FPS).parse(given.get("fps", made_fps), "fps"), 3)
    look = Look.of(given)
    words = (f"{fps:g}fps", quality, look.name)
    target = video.with_name(f"video-{'-'.join(filter(None, words))}.{format}")
    with _ONE_AT_A_TIME:  # ffmpeg takes every core, and two must not write the same file
        if target.is_file():
            target.touch()
        else:
            reencode(video, target, fps=fps, format=format, quality=quality, look=look)
        _forget_older(video.parent)
    return target


def _forget_older(folder: Path) -> None:
    made = [path for format in FORMATS for path in folder.glob(f"video-*fps-*.{format}")]
    used = {path: path.stat().st_mtime for path in made if path.is_file()}
    for path in sorted(used, key=lambda path: used[path], reverse=True)[KEPT:]:
        with suppress(OSError):
            path.unlink(missing_ok=True)
