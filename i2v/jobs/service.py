"""The service: takes requests, runs them one after the other in a worker process, and tells whoever asks.

A job lives here and not with the client that sent it: `submit` returns an id at once, any number of clients may
`attach` and go away again. The page, the command line and API clients all use this one class. The worker is
started with the first job and stays warm; a job that fails, or takes the worker with it, never stops the next.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from i2v.events import Cancelled, Event, Failed, StateChanged
from i2v.hardware import MemoryProbe, Probe
from i2v.jobs.child import WORKER_COMMAND, Worker
from i2v.jobs.death import RamWatch, explain_death
from i2v.jobs.folder import PICTURE, VIDEO, create_job_folder, new_job_id, remove_unfinished
from i2v.jobs.plans import Asked, Gain, Plans, plan_notes, wont_fit
from i2v.jobs.prepare import build_plan, build_request
from i2v.jobs.protocol import Cancel, Idle, ProtocolError, Reported, Run, Started
from i2v.jobs.record import JobRecord, JobStatus
from i2v.messages import Message, UserError, message
from i2v.models.catalogue import find_model
from i2v.plan import Plan
from i2v.planning.planner import Planned
from i2v.settings import Settings
from i2v.video.picture import load_picture

log = logging.getLogger(__name__)

LOG_NAME = "worker.log"


class JobService:
    """Every method may be called from any thread. `close` it when done; as a context manager it does so itself."""

    def __init__(
        self,
        settings: Settings,
        probe: MemoryProbe,
        *,
        worker_command: Sequence[str] = WORKER_COMMAND,
        plans: Plans | None = None,
    ) -> None:
        """Without `plans` jobs run as the preset says, whatever is free."""
        self._settings = settings
        self._plans = plans
        self._probe = probe
        self._worker_command = worker_command
        self._log_path = settings.logs_dir.absolute() / LOG_NAME
        self._jobs: dict[str, JobRecord] = {}
        self._waiting: deque[JobRecord] = deque()
        self._to_cancel: set[str] = set()
        self._asked: dict[str, Asked] = {}  # what was predicted for jobs that have not ended
        self._worker: Worker | None = None
        self._closed = False
        self._changed = threading.Condition()  # guards all of the above; never held while waiting for the worker
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)
        self._thread.start()

    def __enter__(self) -> JobService:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, values: Mapping[str, Any], picture: Path | None, owner: str = "local") -> str:
        """Check everything that can be checked, make the job folder, queue the job and return its id.

        `values` has the command line's keys. Raises UserError for whatever is wrong with the request, the picture,
        the model or the outputs folder, and when `max_queue` jobs wait already; nothing is left behind then.
        """
        self._refuse_if_full()
        # The picture is the one handed over: a client's words must not name files of this computer.
        request = build_request({**values, "image": str(picture) if picture else None}, self._settings)
        entry = find_model(request.model, self._settings)
        image = load_picture(picture, max_megapixels=self._settings.max_picture_megapixels) if picture else None
        request = replace(request, image_path=PICTURE if image else None)
        probe = self._look_at_machine()
        plan, notes = build_plan(request, self._settings, probe)
        asked = self._plans.asked(request, self._settings, probe) if self._plans else None
        if asked is not None and (planned := self._planned(asked)) is not None:
            request, plan, notes = planned.request, planned.plan, (*notes, *plan_notes(planned))

        now = datetime.now()
        job_id = new_job_id(now)
        folder = create_job_folder(self._settings.outputs_dir, job_id, now, request, plan, image)
        job = JobRecord(job_id, folder, request, plan, entry, owner, card=_visible_card(plan, probe))
        if asked is not None:
            self._asked[job_id] = replace(asked, request=request)
        job.append(StateChanged("queued"))
        for note in notes:
            job.append(note)
        try:
            self._queue(job)
        except UserError:
            self._asked.pop(job_id, None)
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return job_id

    def get_ready(self) -> None:
        """Before anybody asks: measure the card where that was never done, and warm the planning child up. Seconds."""
        if self._plans is None:
            return
        gpu = self._look_at_machine().gpu
        if gpu is not None:
            self._plans.measure_card(gpu)
        self._plans.warm_up()

    def plan(self, values: Mapping[str, Any], *, exactly: bool = False) -> tuple[Planned | None, tuple[Gain, ...]]:
        """How `values`, a request as far as it goes, would be run on the machine as it is now, and what closing other
        programs would gain. At once: None where nothing is known of such a job. Exactly: seconds for a new size.

        Raises UserError."""
        if self._plans is None:
            raise UserError("planning.not_planned")
        request = build_request(values, self._settings, to_run=False)
        probe = self._look_at_machine()
        asked = self._plans.asked(request, self._settings, probe)
        planned = (self._plans.exactly if exactly else self._plans.at_once)(asked)
        others = probe.gpu.processes if probe.gpu and planned else ()
        return planned, tuple(self._plans.gains(asked, planned, others))

    def _planned(self, asked: Asked) -> Planned | None:
        """The plan for a job about to be queued: exact where a bound says that it would not fit. Raises UserError
        where it can not run."""
        planned = self._plans.at_once(asked)
        if planned is None and asked.entry.standin:
            return None
        if planned is None or planned.prediction.verdict == "wont_fit":
            planned = self._plans.exactly(asked)
        if planned.prediction.verdict == "wont_fit":
            raise wont_fit(planned)
        return planned

    def attach(self, job_id: str, after: int = -1) -> Iterator[tuple[int, Event]]:
        """The job's events with their numbers (from 0): those above `after` first, then each as it comes, to the
        final StateChanged. Raises UserError for an unknown id, at once."""
        return self._find(job_id).follow(after)

    def status(self, job_id: str) -> JobStatus:
        """Where the job stands now. Raises UserError for an unknown id."""
        job = self._find(job_id)
        with self._changed:
            return job.status(self._waiting.index(job) + 1 if job in self._waiting else 0)

    def jobs(self) -> list[JobStatus]:
        """Every job since the service started, oldest first."""
        return [self.status(job_id) for job_id in list(self._jobs)]

    def result(self, job_id: str) -> Path:
        """The finished video. Raises UserError when there is none (yet)."""
        job = self._find(job_id)
        state = job.status().state
        if state != "done":
            raise UserError("jobs.not_done", id=job_id, state=state)
        video = job.folder / VIDEO
        if not video.is_file():
            raise UserError("jobs.video_gone", path=str(video))
        return video

    def cancel(self, job_id: str) -> bool:
        """End the job: a waiting one at once, a running one within a step. False when it had ended already."""
        job = self._find(job_id)
        with self._changed:
            if job.ended:
                return False
            if job in self._waiting:
                self._waiting.remove(job)
                job.append(Cancelled(step=0))
                return True
            self._to_cancel.add(job_id)
            if self._worker:
                with suppress(OSError):  # the worker just died; the job ends with it
                    self._worker.send(Cancel(job_id))
            return True

    def close(self) -> None:
        """End the worker, whatever it does, and every job that has not ended."""
        with self._changed:
            self._closed = True
            waiting, worker = list(self._waiting), self._worker
            self._waiting.clear()
            self._changed.notify_all()
        for job in waiting:
            job.append(Failed(message("jobs.closed")))
        if self._plans:
            self._plans.close()
        if worker:
            worker.end()
        self._thread.join()

    # --- taking jobs in ---

    def _find(self, job_id: str) -> JobRecord:
        try:
            return self._jobs[job_id]
        except (KeyError, TypeError):
            raise UserError("jobs.unknown", id=str(job_id)) from None

    def _refuse_if_full(self) -> None:
        if self._closed:
            raise UserError("jobs.closed")
        if len(self._waiting) >= self._settings.max_queue:
            raise UserError("jobs.queue_full", limit=self._settings.max_queue)

    def _queue(self, job: JobRecord) -> None:
        with self._changed:
            self._refuse_if_full()  # again: others may have come while the picture was read
            self._jobs[job.id] = job
            self._waiting.append(job)
            self._changed.notify_all()

    def _look_at_machine(self) -> Probe:
        """The machine now. A warm worker keeps its card: what it holds there makes the other cards look freer."""
        probe, worker = self._probe.read(), self._worker
        kept = [gpu for gpu in probe.gpus if worker and worker.alive and gpu.uuid == worker.card]
        return replace(probe, gpu=kept[0]) if kept else probe

    # --- running them, in a thread of its own ---

    def _work(self) -> None:
        while job := self._next():
            try:
                self._run(job)
            except UserError as error:
                job.append(Failed(error.message))
            except Exception:
                log.exception("%s failed in the service", job.id)
                job.append(Failed(message("jobs.internal", log=str(self._log_path.parent))))
            self._to_cancel.discard(job.id)
            self._account(job)

    def _account(self, job: JobRecord) -> None:
        """Hold a finished job's prediction against what came."""
        asked = self._asked.pop(job.id, None)
        if asked is not None and job.status().state == "done":
            events = [event for _, event in job.follow(-1)]
            self._plans.account(asked, job.status().plan, events)

    def _next(self) -> JobRecord | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            return None if self._closed else self._waiting.popleft()

    def _run(self, job: JobRecord) -> None:
        """Run `job` to its end in the worker; when the worker ends first, the job fails with the reason."""
        job.append(StateChanged("running"))
        was_warm = self._worker is not None
        problem = self._run_in(self._worker_seeing(job.card), job)
        if problem and was_warm and job.status().worker_pid is None:
            # The worker had died while it waited, before it could take this job: not the job's doing.
            problem = self._run_in(self._worker_seeing(job.card), job)
        if problem:
            job.append(Failed(problem))

    def _run_in(self, worker: Worker, job: JobRecord) -> Message | None:
        """Let `worker` run `job`; None when the job ended by itself, the reason when the worker ended first."""
        watch = RamWatch(worker.pid)
        problem: Message | None = None
        try:
            with self._changed:
                if job.id in self._to_cancel:
                    job.append(Cancelled(step=0))
                    return None
                with suppress(OSError):  # it died just now; its pipe says so below
                    worker.send(self._command(job))
            if self._relay(worker, job):
                return None
        except ProtocolError as error:
            log.error("The worker said something that is no report: %s", error)
            problem = message("jobs.worker_garbled", log=str(self._log_path))
        finally:
            ram = watch.stop()
        self._worker = None
        exit_code = worker.end()
        remove_unfinished(job.folder)
        if self._closed:
            return message("jobs.closed")
        log.warning("Worker %s ended with %s during %s; %s", worker.pid, exit_code, job.id, ram)
        return problem or explain_death(exit_code, ram, self._log_path)

    def _relay(self, worker: Worker, job: JobRecord) -> bool:
        """Put the worker's reports in the job's list; True once the worker is idle again, False when it is gone."""
        for report in worker.reports():
            if report.job_id != job.id:
                raise ProtocolError(f"a report about {report.job_id} during {job.id}")
            match report:
                case Started(pid=pid):
                    job.runs_in(pid)
                case Reported(event=event):
                    job.append(event)
                case Idle():
                    return True
        return False

    def _worker_seeing(self, card: str) -> Worker:
        """The warm worker when it is alive and sees `card`, else a new one. Raises UserError when there can be none."""
        worker = self._worker
        if worker and worker.alive and worker.card == card:
            return worker
        if worker:
            worker.end()
        try:
            worker = Worker(card, self._log_path, self._worker_command)
        except OSError as error:
            raise UserError("jobs.worker_not_started", reason=str(error), log=str(self._log_path)) from error
        with self._changed:
            self._worker = worker
            if not self._closed:
                return worker
        worker.end()
        raise UserError("jobs.closed")

    def _command(self, job: JobRecord) -> Run:
        status, settings = job.status(), self._settings
        return Run(
            job_id=job.id,
            folder=str(job.folder),
            request=status.request.to_json(),
            plan=status.plan.to_json(),
            entry=job.entry.to_json(),
            models_dir=str(settings.models_dir.absolute()),
            log=str(self._log_path),
            endpoint=settings.hf_endpoint,
            offline=settings.offline,
        )


def _visible_card(plan: Plan, probe: Probe) -> str:
    """The UUID of the card the plan runs on, empty for none."""
    return probe.gpu.uuid if plan.device == "cuda" and probe.gpu else ""
