"""The list of jobs from the job folders alone: for a list that is lost, and for folders that it does not know."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from i2v.events import FINAL_STATES, StateChanged
from i2v.job_progress import JobProgress
from i2v.jobs.job.folder import JOB, VIDEO
from i2v.jobs.job.history import read_history
from i2v.jobs.job.states import AT_WORK, STATES
from i2v.jobs.job.stored import StoredJob
from i2v.messages import message
from i2v.plan import Plan
from i2v.request import GenerationRequest

log = logging.getLogger(__name__)

_DAY = re.compile(r"\d{4}-\d\d-\d\d")


def job_folders(outputs_dir: Path) -> Iterator[Path]:
    """Every `YYYY-MM-DD/<id>/` there is; a day that cannot be read has none. Raises OSError."""
    for day in sorted(outputs_dir.absolute().iterdir()):
        try:
            names = sorted(os.listdir(day)) if _DAY.fullmatch(day.name) and day.is_dir() else []
        except OSError as error:
            log.warning("%s cannot be read: %s", day, error)
            continue
        yield from (day / name for name in names if not name.startswith(".") and (day / name).is_dir())


def job_from_folder(folder: Path) -> StoredJob | None:
    """The job that `folder` holds, or None where it holds none. One that had not ended waits again."""
    try:
        request = GenerationRequest.from_json(_read(folder / "request.json"))
        plan = Plan.from_json(_read(folder / "plan.json"))
        if not (folder / JOB).exists():
            return _with_history(_older_job(folder, request, plan), folder)
        job = StoredJob.from_ticket(_read(folder / JOB), request, plan)
        if job.id != folder.name:
            log.warning("%s is a copy of job %s and is left aside", folder, job.id)
            return None
        return _with_history(job, folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        log.warning("%s is no job that could be read: %s: %s", folder, type(error).__name__, error)
        return None


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_bytes())


def _older_job(folder: Path, request: GenerationRequest, plan: Plan) -> StoredJob:
    """A job from before folders had a job.json."""
    try:
        submitted = datetime.strptime(folder.name[:15], "%Y%m%d-%H%M%S").timestamp()
    except ValueError:
        submitted = (folder / "request.json").stat().st_mtime
    return StoredJob(folder.name, f"{folder.parent.name}/{folder.name}", request, plan, None, submitted)


def _with_history(job: StoredJob, folder: Path) -> StoredJob:
    """`job` with what happened to it."""
    told = JobProgress()
    for past in read_history(folder, only=("state_changed", "failed", "paused")):
        if not isinstance(past.event, StateChanged) or past.event.state in STATES:  # not one of a later version
            told = told.after(past.event, past.time)
    error = told.note if told.state == "paused" else told.error
    job = replace(job, state=told.state, error=error, started=told.started, ended=told.ended, attempts=told.attempts)
    if job.attempts == 0 and job.state not in FINAL_STATES and (folder / VIDEO).is_file():
        # Its record is gone, its video is there: the video appears last, and whole.
        return replace(job, state="done", ended=(folder / VIDEO).stat().st_mtime)
    if job.state not in FINAL_STATES and job.entry is None:
        return replace(job, state="failed", ended=job.submitted, error=message("jobs.closed"))
    return replace(job, state="queued") if job.state in AT_WORK else job
