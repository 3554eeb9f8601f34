"""Reports of how steady a clip is: measured from a video file, kept beside a video, read again."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from i2v.messages import UserError
from i2v.video.clip import clip_facts, shrunk_frames
from i2v.video.steadiness import Steadiness
from i2v.video.steadiness_meter import LONG_SIDE, SteadinessMeter
from i2v.whole_file import write_whole

REPORT = "steadiness.json"
FRAMES_CSV = "steadiness.csv"


def measure_video(path: Path, *, seams: Collection[int] = ()) -> Steadiness:
    """What the frames of the video at `path` come to. They are read one after the other, already small. Raises
    UserError as `clip_facts` does, and for a video that ends early."""
    meter = SteadinessMeter(clip_facts(path).fps, seams=seams, source="video")
    frames = 0
    for frame in shrunk_frames(path, LONG_SIDE):
        meter.add(np.asarray(frame))
        frames += 1
    if not frames:
        raise UserError("clip.broken", file=path.name)
    return meter.report()


def keep_steadiness(folder: Path, report: Steadiness) -> None:
    """Write the report into a job's folder, for programs and as a table, each whole. Raises OSError."""
    write_whole(folder / FRAMES_CSV, report.csv())
    write_whole(folder / REPORT, json.dumps(report.to_json(), allow_nan=False) + "\n")


def kept_steadiness(folder: Path) -> Steadiness | None:
    """What `keep_steadiness` wrote; None where there is none, or none of this version."""
    try:
        return Steadiness.from_json(json.loads((folder / REPORT).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def kept_summary(folder: Path) -> Steadiness | None:
    """As `kept_steadiness`, without the single frames: quick for a file that was read before and has not changed."""
    try:
        state = (folder / REPORT).stat()
    except OSError:
        return None
    return _summary(folder, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=4096)
def _summary(folder: Path, _changed: int, _size: int) -> Steadiness | None:
    report = kept_steadiness(folder)
    return replace(report, frames=()) if report else None
