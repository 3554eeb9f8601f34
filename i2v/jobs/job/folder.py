"""The folder of one job: `outputs/YYYY-MM-DD/<id>/`. It appears whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from PIL import Image

from i2v.messages import UserError
from i2v.plan import Plan
from i2v.request import GenerationRequest
from i2v.video.rescue import rescue_video
from i2v.whole_file import whole_folder

PICTURE = "input.png"
LAST_PICTURE = "input-last.png"
PICTURE_AT = "input-{}.png"  # that of a frame between them
CLIP = "input_clip"  # with the ending of its kind
JOB = "job.json"
TRAINING = "training.json"
VIDEO = "video.mp4"
BEFORE = "before.mp4"
LAST_FRAME = "last-frame.png"

_FULL = (errno.ENOSPC, errno.EDQUOT)


def new_job_id(now: datetime) -> str:
    """Sorts by time and cannot be guessed from it: `20261120-081530-a1b2c3`."""
    return f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def create_job_folder(
    outputs_dir: Path,
    job_id: str,
    now: datetime,
    request: GenerationRequest,
    plan: Plan,
    picture: Image.Image | None,
    ticket: Mapping[str, Any] | None = None,
    clip: Path | None = None,
    before: Path | None = None,
    training: Mapping[str, Any] | None = None,
    last_picture: Image.Image | None = None,
    pictures_at: Mapping[int, Image.Image] | None = None,
) -> Path:
    """Write request, plan, the pictures that the video begins and ends with and those at frames between, copies of
    `clip` and of the video `before` under the names that the request has for them, `training` (of a job that trains),
    and `ticket` (`StoredJob.ticket`: with it the folder alone tells the whole job), and return the folder's absolute
    path. Raises UserError when `outputs_dir` cannot be written or is full. Whatever ends it early, Ctrl-C too, nothing
    is left behind."""
    folder = outputs_dir.absolute() / folder_name(job_id, now)
    with outputs_errors(outputs_dir), whole_folder(folder) as unfinished:
        _write_json(unfinished / "request.json", request.to_json())
        _write_json(unfinished / "plan.json", plan.to_json())
        if training is not None:
            _write_json(unfinished / TRAINING, training)
        if ticket is not None:
            _write_json(unfinished / JOB, ticket)
        between = {PICTURE_AT.format(frame): image for frame, image in (pictures_at or {}).items()}
        for name, image in {PICTURE: picture, LAST_PICTURE: last_picture, **between}.items():
            if image is not None:
                # It is sRGB already. A profile has the time of its making in it, and the same picture would be
                # another file each time: progress and what was encoded would be taken for another picture's.
                image.save(unfinished / name, compress_level=1, icc_profile=None)
        if clip is not None and request.clip_path is not None:
            shutil.copyfile(clip, unfinished / request.clip_path)
        if before is not None and request.before is not None:
            _share(before, unfinished / request.before)
    return folder


def folder_name(job_id: str, now: datetime) -> str:
    """The job folder, relative to the outputs folder."""
    return f"{now:%Y-%m-%d}/{job_id}"


def remove_unfinished(folder: Path) -> None:
    """Tidy a job folder after a worker that was killed: what plays of its video is kept as `video-partial.mp4`, the
    rest of what it had begun to write is removed, and nothing that is whole."""
    with suppress(UserError):
        rescue_video(folder / VIDEO)
    for partial in folder.glob(".*.part*"):
        with suppress(OSError):
            partial.unlink()


@contextmanager
def outputs_errors(outputs_dir: Path) -> Iterator[None]:
    """Turns what a file system says about `outputs_dir` into a UserError that says what to do."""
    try:
        yield
    except OSError as error:
        folder, reason = str(outputs_dir.absolute()), error.strerror or str(error)
        if error.errno in _FULL:
            raise UserError("jobs.outputs_full", folder=folder, free_mib=free_mib(outputs_dir)) from error
        raise UserError("jobs.outputs_not_writable", folder=folder, reason=reason) from error


def free_mib(folder: Path) -> int:
    """What is free on the disk of `folder`, which need not exist yet."""
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free // 2**20


def _share(source: Path, target: Path) -> None:
    """The same file under another name, taking no more room where the disk can do that."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _write_json(path: Path, values: object) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=True, allow_nan=False) + "\n", encoding="utf-8")
