"""The folder of one job: `outputs/YYYY-MM-DD/<id>/`. It appears whole or not at all."""

from __future__ import annotations

import errno
import json
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from PIL import Image

from i2v.messages import UserError
from i2v.plan import Plan
from i2v.request import GenerationRequest

PICTURE = "input.png"
VIDEO = "video.mp4"

_FULL = (errno.ENOSPC, errno.EDQUOT)


def new_job_id(now: datetime) -> str:
    """Sorts by time and cannot be guessed from it: `20261120-081530-a1b2c3`."""
    return f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def create_job_folder(
    outputs_dir: Path, job_id: str, now: datetime, request: GenerationRequest, plan: Plan, picture: Image.Image | None
) -> Path:
    """Write request, plan and picture, and return the folder's absolute path. Raises UserError when `outputs_dir`
    cannot be written or is full; nothing is left behind then."""
    day = outputs_dir.absolute() / f"{now:%Y-%m-%d}"
    unfinished = day / f".{job_id}.unfinished"
    with outputs_errors(outputs_dir):
        try:
            unfinished.mkdir(parents=True)
            _write_json(unfinished / "request.json", request.to_json())
            _write_json(unfinished / "plan.json", plan.to_json())
            if picture is not None:
                picture.save(unfinished / PICTURE, compress_level=1)
            return unfinished.rename(day / job_id)
        except OSError:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise


def remove_unfinished(folder: Path) -> None:
    """Remove what a worker that was killed had begun to write in its job folder, and nothing that is whole."""
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
            raise UserError("jobs.outputs_full", folder=folder, free_mib=_free_mib(outputs_dir)) from error
        raise UserError("jobs.outputs_not_writable", folder=folder, reason=reason) from error


def _free_mib(folder: Path) -> int:
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free // 2**20


def _write_json(path: Path, values: object) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=True, allow_nan=False) + "\n", encoding="utf-8")
