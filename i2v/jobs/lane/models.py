"""Jobs whose model is not on the disk: it is fetched beside the lane, they wait for it, and others run meanwhile.

A job that waits for its model stays in line. One whose model does not come is laid down with the reason, and goes on by
itself when the model has come after all.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace

from i2v.downloads.service import Downloads
from i2v.downloads.state import Download
from i2v.events import Noted, Paused
from i2v.jobs.job.stored import StoredJob
from i2v.jobs.lane.prepared import model_of
from i2v.jobs.list.board import Board
from i2v.messages import Message, UserError, message
from i2v.models.entry import ModelEntry
from i2v.settings.settings import Settings
from i2v.units import amount

log = logging.getLogger(__name__)

FAILED = "jobs.model_failed"
CANCELLED = "jobs.model_cancelled"
LAID_DOWN = (FAILED, CANCELLED)
"""Why a job is laid down for want of its model; as the list keeps it."""


class ModelWaits:
    """Any thread may call. Without `downloads` every job has its model: the worker fetches what is missing."""

    def __init__(self, board: Board, downloads: Downloads | None, settings: Settings) -> None:
        self._board = board
        self._downloads = downloads
        self._settings = replace(settings, offline=True)  # what is here is asked, and the network is not
        self._waiting: dict[str, str] = {}  # hub ids, by the job that waits for the model
        self._laid_down: dict[str, str] = {}
        self._told: dict[str, str] = {}  # by job, the id of what its followers were told last

    def take_up(self) -> None:
        """Those that an earlier start of the app has laid down. Raises UserError."""
        for job in self._board.store.jobs(states=("paused",)):
            if job.error is not None and job.error.id in LAID_DOWN and job.entry and job.entry.hub_id:
                self._laid_down[job.id] = job.entry.hub_id

    def look(self) -> None:
        """Ask for what jobs in line need, and put those in line again whose model has come. What goes wrong is only
        logged: the next look comes."""
        if self._downloads is None:
            return
        with self._board.changed:
            try:
                self._wake(self._downloads)
                waiting = self._board.store.waiting()
                ids = {job.id for job in waiting}
                self._waiting = {job_id: hub_id for job_id, hub_id in self._waiting.items() if job_id in ids}
                for job in waiting:
                    self.ready(job)
            except UserError as error:
                log.warning("Jobs that wait for their models: %s", error)

    def ready(self, job: StoredJob) -> bool:
        """Whether the job's model is on the disk. Where it is not its download is asked for, once; where that was of no
        use the job is laid down."""
        entry = job.entry
        if self._downloads is None or entry is None or entry.hub_id is None or not _may_lack(job):
            return True
        with self._board.changed:
            download = self._downloads.of(entry.hub_id)
            if (download is None or download.state in ("done", "failed")) and model_of(job, self._settings).present:
                self._waiting.pop(job.id, None)
                return True
            if job.id not in self._waiting:
                self._waiting[job.id] = entry.hub_id
                try:
                    download = self._downloads.add(replace(model_of(job, self._settings), present=False))
                except UserError as error:
                    self._lay_down(job, _failed(entry, error.message))
                    return False
            elif download is None or download.state == "done":
                self._lay_down(job, message(CANCELLED, model=entry.title))
                return False
            elif download.state == "failed":
                self._lay_down(job, _failed(entry, download.error or message("downloads.unknown", id=download.id)))
                return False
            self._tell(job, told(download))
            return False

    def waits_for(self, job_id: str) -> Message | None:
        """What a job in line waits for; None where it is its turn alone."""
        hub_id = self._waiting.get(job_id)
        download = self._downloads.of(hub_id) if self._downloads and hub_id else None
        return told(download) if download else None

    def _wake(self, downloads: Downloads) -> None:
        for job_id, hub_id in list(self._laid_down.items()):
            download = downloads.of(hub_id)
            if download is None or download.state != "done":
                continue
            del self._laid_down[job_id]
            with suppress(UserError):  # the job is gone
                job = self._board.store.get(job_id)
                if job.error is not None and job.error.id in LAID_DOWN:  # else it waits for something else by now
                    self._board.change(job_id, "queued", expected=("paused",))

    def _lay_down(self, job: StoredJob, reason: Message) -> None:
        hub_id = self._waiting.pop(job.id)
        self._told.pop(job.id, None)
        step = self._board.record(job.id).progress.step
        if self._board.change(job.id, "paused", Paused(step, reason), expected=("queued",), error=reason):
            self._laid_down[job.id] = hub_id

    def _tell(self, job: StoredJob, text: Message | None) -> None:
        """Its followers are told of every change, and see in its status how far the model has come."""
        if text is not None and self._told.get(job.id) != text.id:
            self._told[job.id] = text.id
            self._board.record(job.id).append(Noted("info", text))


def told(download: Download) -> Message | None:
    """What somebody who waits for the model is told; None where it has come or failed."""
    model, total = download.title, amount(download.total_bytes, up=True)
    done = amount(download.done_bytes)
    match download.state:
        case "waiting" | "coming" if not download.total_bytes:
            return message("jobs.model_asked", model=model)
        case "waiting" if download.note is not None:
            return message("jobs.model_broke_off", model=model, done=done, total=total)
        case "waiting":
            return message("jobs.model_waits", model=model, total=total)
        case "paused":
            return message("jobs.model_paused", model=model, done=done, total=total)
        case "coming" if download.seconds_left is not None:
            left = _clock(download.seconds_left)
            return message("jobs.model_comes_left", model=model, done=done, total=total, left=left)
        case "coming":
            return message("jobs.model_comes", model=model, done=done, total=total)
    return None


def _failed(entry: ModelEntry, reason: Message) -> Message:
    return message(FAILED, model=entry.title, reason=reason.to_json())


def _may_lack(job: StoredJob) -> bool:
    """Whether the job's model may have to be fetched."""
    entry = job.entry
    if entry is None or job.task == "train":
        return False
    return not entry.present or (entry.folder is not None and not entry.folder.exists())


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
