"""The lane: runs the jobs of a board one after the other in a worker process, whatever becomes of that process.

A worker that dies or hangs is explained, and its job goes on in a new one from what it had kept; only one that dies
again and again without getting any further is given up. A job that fails never stops the next.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from i2v.downloads.service import Downloads
from i2v.events import Cancelled, Done, Event, Failed, Noted, Paused, StateChanged, StepFinished
from i2v.hardware.probe import Gpu, Probe
from i2v.jobs.asked.plans import Plans
from i2v.jobs.job.folder import remove_unfinished
from i2v.jobs.job.predicted import keep_prediction
from i2v.jobs.job.record import JobRecord
from i2v.jobs.job.states import AT_WORK, NotAllowed
from i2v.jobs.job.stored import StoredJob, hidden_folder
from i2v.jobs.job.training import read_asked
from i2v.jobs.lane.lending import should_lend
from i2v.jobs.lane.models import ModelWaits
from i2v.jobs.lane.own_memory import without_worker
from i2v.jobs.lane.prepared import Prepared, model_of, prepare
from i2v.jobs.lane.waits import LENT, SCOUTED, Waits
from i2v.jobs.lane.watch import HangWatch
from i2v.jobs.list.board import Board
from i2v.jobs.process.child import Worker
from i2v.jobs.process.death import RamWatch, explain_death
from i2v.messages import Message, UserError, message
from i2v.models.lora_places import lora_folders
from i2v.plan import Plan
from i2v.planning.machine import machine_of
from i2v.settings.settings import Settings
from i2v.wire.worker import Cancel, Idle, Pause, ProtocolError, Reported, Run, Started

log = logging.getLogger(__name__)

LOG_NAME = "worker.log"
DEATHS_WITHOUT_PROGRESS = 3
TICK_SECONDS = 2.0  # between looks at the disk and the card, while something waits for them
CLOSING_SECONDS = 1.5  # for the running job to lay itself down

MakeWorker = Callable[[str, Path], Worker]


class Lane:
    """One thread and at most one worker. Wishes may come from any thread."""

    def __init__(
        self,
        board: Board,
        settings: Settings,
        look: Callable[[], Probe],
        make_worker: MakeWorker,
        plans: Plans | None,
        downloads: Downloads | None = None,
    ) -> None:
        """`look` reads the machine. Without `downloads` the worker fetches a model that is missing."""
        self._board = board
        self._settings = settings
        self._look = look
        self._make_worker = make_worker
        self._plans = plans
        self.log_path = settings.logs_dir.absolute() / LOG_NAME
        self._worker: Worker | None = None
        self._running: str | None = None
        self._to_cancel: set[str] = set()
        self._to_pause: dict[str, Message | None] = {}
        self._waits = Waits(board, look)
        self.models = ModelWaits(board, downloads, settings)
        """Which jobs have their models, and what the others wait for."""
        self._started_with: Gpu | None = None
        self._prepared = Prepared(Plan())
        self._only: set[str] | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)

    def start(self, only: set[str] | None = None) -> None:
        """Begin to take jobs: all that wait, or those alone that come to be in `only`. Raises UserError."""
        self._only = only
        self._waits.take_up()
        self.models.take_up()
        self._thread.start()

    @property
    def worker(self) -> Worker | None:
        """The warm worker, None without one."""
        worker = self._worker
        return worker if worker and worker.alive else None

    @property
    def running(self) -> str | None:
        """The job at work."""
        return self._running

    def cancel(self, job_id: str) -> None:
        """Let the job at work end at its next step."""
        with self._board.changed:
            self._to_cancel.add(job_id)
            self._send(Cancel(job_id), job_id)

    def pause(self, job_id: str, reason: Message | None = None) -> None:
        """Let the job at work be laid down at its next step, and its memory given back."""
        with self._board.changed:
            self._to_pause[job_id] = reason
            self._send(Pause(job_id), job_id)

    def rest(self) -> None:
        """End a worker that has nothing to do, so that it holds no memory."""
        with self._board.changed:
            worker = self._worker if self._running is None else None
            if worker is not None:
                self._worker = None
        if worker is not None:
            worker.end()

    def close(self) -> None:
        """Lay the running job down, which then waits for the next start; end the worker, whatever it does, and the
        thread."""
        with self._board.changed:
            self._closed = True
            running = self._running
            if running is not None:
                self.pause(running)
            self._board.changed.notify_all()
        if running is not None:
            self._thread.join(CLOSING_SECONDS)
        if self._worker is not None:
            self._worker.end()
        if self._thread.ident is not None:
            self._thread.join()
        if self._worker is not None:
            self._worker.end()

    def _send(self, command: Cancel | Pause, job_id: str) -> None:
        if self._worker and self._running == job_id:
            with suppress(OSError):  # the worker just died
                self._worker.send(command)

    # --- which job is next ---

    def _work(self) -> None:
        while job := self._next():
            try:
                with self._plans.at_work() if self._plans else nullcontext():
                    self._run(job)
            except UserError as error:
                self._fail(job, error.message)
            except Exception:
                log.exception("%s failed in the service", job.id)
                self._fail(job, message("jobs.internal", log=str(self.log_path.parent)))
            finally:
                if self._closed:
                    self._put_back(job)
                with self._board.changed:
                    self._running = None
                    self._to_cancel.discard(job.id)
                    self._to_pause.pop(job.id, None)

    def _next(self) -> StoredJob | None:
        while True:
            self._waits.wake()
            self.models.look()
            with self._board.changed:
                if self._closed:
                    return None
                if (job := self._first_waiting()) is not None:
                    self._running = job.id
                    return job
                watches = self._waits or not self._board.write_down()
                self._board.changed.wait(TICK_SECONDS if watches else None)

    def _first_waiting(self) -> StoredJob | None:
        store = self._board.store
        try:
            if not self._board.write_down() or store.queue_paused or self._waits.card_is_lent:
                return None
            own = (job for job in store.waiting() if self._only is None or job.id in self._only)
            return next((job for job in own if self.models.ready(job)), None)
        except UserError as error:
            log.warning("The list of jobs cannot be read: %s", error)
            return None

    # --- running it ---

    def _run(self, job: StoredJob) -> None:
        """Run `job` until it has ended, is laid down, or is given up."""
        board, record = self._board, self._board.record(job.id)
        prepared = self._prepared = self._prepare(job, record)
        try:
            if not board.change(job.id, "running", expected=("queued",)):
                return  # cancelled or laid down just now
        except UserError as error:
            self._leave_in_line(record, error.message)
            return
        deaths, furthest = 0, (0, 0)
        # A worker that dies after it has told how the job ended leaves nothing to be made again.
        while (problem := self._attempt(job, record, prepared)) is not None and not record.ended:
            if self._closed:
                return
            reached = record.progress.reached
            deaths = deaths + 1 if reached <= furthest else 1
            furthest = max(furthest, reached)
            if deaths >= DEATHS_WITHOUT_PROGRESS or record.worker_pid is None:
                self._fail(job, problem)
                return
            record.append(Noted("warning", problem))
            record.append(Noted("info", message("jobs.taken_up_again", attempt=deaths + 1)))
            prepared = replace(prepared, plan=record.progress.plan or prepared.plan)
        self._account(prepared, record)

    def _leave_in_line(self, record: JobRecord, reason: Message) -> None:
        """The list does not take a change, since the disk is full: the job waits until it does."""
        if record.events()[-1][1] != (said := Noted("warning", reason)):
            record.append(said)
        with self._board.changed:
            if not self._closed:
                self._board.changed.wait(TICK_SECONDS)

    def _prepare(self, job: StoredJob, record: JobRecord) -> Prepared:
        prepared = prepare(job, record, self._plans, self._settings, without_worker(self._look(), self.worker))
        with suppress(UserError):  # a disk that is full now costs the estimate, no more
            self._board.store.update(job.id, plan=prepared.plan, seconds_predicted=prepared.seconds)
        if prepared.prediction is not None:
            keep_prediction(record.folder, prepared.prediction)
        record.runs_under(prepared.plan)
        return prepared

    def _account(self, prepared: Prepared, record: JobRecord) -> None:
        """Hold a finished job's prediction against what came; a part of a run says nothing about the whole."""
        came, asked = record.progress, prepared.asked
        if self._plans is not None and asked is not None and came.state == "done" and came.resumed_from_step is None:
            plan = came.plan or prepared.plan
            self._plans.account(asked, plan, [event for _, event in record.events()], came.healed)

    def _attempt(self, job: StoredJob, record: JobRecord, prepared: Prepared) -> Message | None:
        """Run the job in the worker; None when that said how it went, the reason when the worker ended first."""
        was_warm = self._worker is not None
        problem = self._run_in(self._worker_seeing(job.card), job, record, prepared)
        if problem and was_warm and record.worker_pid is None:
            # The worker had died while it waited, before it could take this job: not the job's doing.
            problem = self._run_in(self._worker_seeing(job.card), job, record, prepared)
        return problem

    def _run_in(self, worker: Worker, job: StoredJob, record: JobRecord, prepared: Prepared) -> Message | None:
        step_seconds = prepared.seconds / job.steps if prepared.seconds else None
        ram = RamWatch(worker.pid)
        hang = HangWatch(worker.kill, step_seconds, self._settings.hang_seconds)
        problem: Message | None = None
        try:
            with self._board.changed:
                if job.id in self._to_cancel:
                    self._board.ended(job.id, ("cancelled",), Cancelled(record.progress.step))
                    return None
                with suppress(OSError):  # it died just now; its pipe says so below
                    worker.send(self._command(job, record, prepared))
                    if job.id in self._to_pause:
                        worker.send(Pause(job.id))
            if self._relay(worker, job, record, hang):
                if job.id in self._to_pause:
                    self._retire(worker)  # the memory was wanted back
                return None
        except ProtocolError as error:
            log.error("The worker said something that is no report: %s", error)
            problem = message("jobs.worker_garbled", log=str(self.log_path))
        finally:
            hang.stop()
            seen = ram.stop()
        exit_code = self._retire(worker)
        remove_unfinished(record.folder)
        log.warning("Worker %s ended with %s during %s; %s", worker.pid, exit_code, job.id, seen)
        if hang.hung_seconds is not None:
            return message(
                "jobs.worker_hung", phase=hang.hung_phase, seconds=round(hang.hung_seconds), log=str(self.log_path)
            )
        return problem or explain_death(exit_code, seen, self.log_path)

    def _retire(self, worker: Worker) -> int:
        with self._board.changed:
            self._worker = None
        return worker.end()

    def _relay(self, worker: Worker, job: StoredJob, record: JobRecord, hang: HangWatch) -> bool:
        """Put the worker's reports in the job's record; True once the worker is idle again, False when it is gone."""
        for report in worker.reports():
            if report.job_id != job.id:
                raise ProtocolError(f"a report about {report.job_id} during {job.id}")
            match report:
                case Started(pid=pid):
                    record.runs_in(pid)
                    hang.heard()
                case Reported(event=event):
                    hang.heard(event)
                    self._take(job, record, event)
                case Idle():
                    return True
        return False

    def _take(self, job: StoredJob, record: JobRecord, event: Event) -> None:
        board = self._board
        match event:
            case StateChanged(state="decoding"):
                with suppress(UserError):  # the disk is full; it is tried again when the run has ended
                    board.change(job.id, "decoding", expected=("running",))
                if record.progress.state != "decoding":
                    record.append(event)
            case Done():
                board.ended(job.id, ("decoding", "done"), event)
            case Failed(message=error):
                board.ended(job.id, ("failed",), event, error)
            case Cancelled():
                board.ended(job.id, ("cancelled",), event)
            case Paused():
                self._laid_down(job, event)
            case StepFinished() if self._settings.lend_card:
                record.append(event)
                self._lend_if_needed(job)
            case _:
                record.append(event)

    def _laid_down(self, job: StoredJob, event: Paused) -> None:
        with self._board.changed:
            if job.id in self._to_cancel:  # it was laid down at the very step at which it was to end
                self._board.ended(job.id, ("cancelled",), Cancelled(event.step))
                return
        if self._closed:
            return  # it waits for the next start
        waits_for = self._to_pause.get(job.id) or event.message
        if event.message is not None:
            self._waits.for_disk(job.id)
        elif waits_for is not None and waits_for.id == LENT:
            self._waits.for_card(job.id, self._prepared.peak_bytes)
        looked_at = job.planned is not None and event.step == job.planned.get("stop_at")
        told = message(SCOUTED, step=event.step) if looked_at else waits_for
        self._board.ended(job.id, ("paused",), replace(event, message=told), waits_for)

    def _lend_if_needed(self, job: StoredJob) -> None:
        """Lay the job down when another program has come to need the card."""
        gpu = self._look().gpu
        if gpu is None or job.id in self._to_pause:
            return
        if self._started_with is None or self._started_with.uuid != gpu.uuid:
            self._started_with = gpu
        worker = self._worker
        name = should_lend(self._started_with, gpu, worker.pid if worker else 0)
        if name is not None:
            self.pause(job.id, message(LENT, program=name))

    def _put_back(self, job: StoredJob) -> None:
        """A job that the closing of the app has stopped waits for its next start."""
        with suppress(UserError, NotAllowed):
            self._board.store.transition(job.id, "queued", expected=AT_WORK)

    def _fail(self, job: StoredJob, reason: Message) -> None:
        if self._closed:
            return
        record = self._board.record(job.id)
        try:
            if record.progress.state not in AT_WORK and not self._board.change(job.id, "running", expected=("queued",)):
                return
        except UserError as error:
            self._leave_in_line(record, error.message)
            return
        self._board.ended(job.id, ("failed",), Failed(reason), reason)

    def _worker_seeing(self, card: str) -> Worker:
        """The warm worker when it is alive and sees `card`, else a new one. Raises UserError when there can be none."""
        worker = self._worker
        if worker and worker.alive and worker.card == card:
            return worker
        if worker:
            worker.end()
        try:
            worker = self._make_worker(card, self.log_path)
        except OSError as error:
            raise UserError("jobs.worker_not_started", reason=str(error), log=str(self.log_path)) from error
        with self._board.changed:
            self._worker = worker
            self._started_with = None
            if not self._closed:
                return worker
        worker.end()
        raise UserError("jobs.closed")

    def _command(self, job: StoredJob, record: JobRecord, prepared: Prepared) -> Run:
        settings = self._settings
        return Run(
            job_id=job.id,
            folder=str(record.folder),
            request=job.request.to_json(),
            plan=prepared.plan.to_json(),
            entry=model_of(job, settings).to_json(),
            models_dir=str(settings.models_dir.absolute()),
            lora_folders=[str(folder.absolute()) for folder in lora_folders(settings.model_folders)],
            log=str(self.log_path),
            endpoint=settings.hf_endpoint,
            offline=settings.offline,
            work=job.task,
            training=self._training(job, record),
            ladder=[rung.to_json() for rung in prepared.ladder],
            healed=list(record.progress.healed),
            cache=str(hidden_folder(self._board.outputs_dir) / "cache"),
            checkpoint_seconds=settings.checkpoint_seconds,
            stop_at=(job.planned or {}).get("stop_at"),
        )

    def _training(self, job: StoredJob, record: JobRecord) -> dict[str, Any] | None:
        """What a job that trains is to train, for the memory that is free now; None for others. Raises UserError."""
        if job.task != "train":
            return None
        machine = machine_of(without_worker(self._look(), self.worker), job.plan.device)
        return {**read_asked(record.folder), "machine": asdict(machine)}
