"""The service: takes requests, runs them one after the other in a worker process, and tells whoever asks.

A job lives here and not with the client that sent it: `submit` returns an id at once, any number of clients may
`attach` and go away again. The page, the command line and API clients all use this one class. What it was told is on
disk before it answers, so jobs outlive it: what was not finished goes on when it is started again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from i2v.downloads.service import Downloads
from i2v.events import Cancelled, Event, Paused
from i2v.families import SPECS
from i2v.hardware.probe import MemoryProbe, Probe
from i2v.jobs.asked.outlook import Outlook, Outlooks
from i2v.jobs.asked.plans import Gain, Plans
from i2v.jobs.asked.prepare import Resolved, resolve
from i2v.jobs.asked.training import asked_training
from i2v.jobs.intake import JobIntake
from i2v.jobs.job.again import DECODED_BY, changed, longer_by, to_decode, values_of
from i2v.jobs.job.exports import export
from i2v.jobs.job.folder import BEFORE, LAST_FRAME, LAST_PICTURE, PICTURE, VIDEO
from i2v.jobs.job.record import JobStatus
from i2v.jobs.job.states import AT_WORK, State
from i2v.jobs.job.steadiness import steadiness_of
from i2v.jobs.job.stored import StoredJob
from i2v.jobs.job.training import TrainingSeen, read_asked, seen
from i2v.jobs.lane.lane import Lane
from i2v.jobs.lane.own_memory import without_worker
from i2v.jobs.lane.waits import LENT_OUT
from i2v.jobs.list.board import Board
from i2v.jobs.list.schedule import Turn, at_its_turn, left, turns
from i2v.jobs.list.tidy import Budgets, Kind, held, tidy
from i2v.jobs.process.child import WORKER_COMMAND, Worker
from i2v.jobs.process.dry_child import ANYBODY, Superseded
from i2v.jobs.process.start import Start, start_cold
from i2v.messages import Message, UserError, message
from i2v.models.catalogue import list_models
from i2v.planning.ledger import Entry
from i2v.planning.planner import Planned
from i2v.settings.settings import Settings
from i2v.settings.values import Number
from i2v.video.steadiness import Steadiness
from i2v.video.stills import last_frame

log = logging.getLogger(__name__)

MORE_SECONDS, LONGEST_MORE_SECONDS = 4.0, 600.0
"""By which a video is extended where nobody says it, and may be at once where its model makes as many frames."""


class JobService:
    """Every method may be called from any thread. `close` it when done; as a context manager it does so itself."""

    def __init__(
        self,
        settings: Settings,
        probe: MemoryProbe,
        *,
        worker_command: Sequence[str] = WORKER_COMMAND,
        start: Start = start_cold,
        plans: Plans | None = None,
        own_jobs_only: bool = False,
    ) -> None:
        """`start` starts the worker. Without `plans` jobs run as the preset says, whatever is free. With
        `own_jobs_only` those that wait from earlier are left to the app. Raises UserError where the outputs folder is
        another service's, or cannot be written."""
        self._settings = settings
        self._plans = plans
        self._outlooks = Outlooks(settings, plans)
        self._probe = probe
        self._board = Board(settings.outputs_dir)
        self.downloads = None if own_jobs_only else Downloads(settings)
        """Models on their way; None where those of jobs are fetched in the worker."""
        self._lane = Lane(
            self._board, settings, self._look_at_machine, lambda *seen: Worker(*seen, worker_command, start), plans,
            self.downloads,
        )  # fmt: skip
        own: set[str] | None = set() if own_jobs_only else None
        self._intake = JobIntake(self._board, settings, plans, self._look_for_next, own, self._look_for_models)
        try:
            for job in self._board.store.recover():
                log.info("%s was at work when the app ended, and waits again", job.id)
            self._lane.start(own)
            if self.downloads is not None:
                self.downloads.on_change(self._look_for_models)
        except BaseException:
            if self.downloads is not None:
                self.downloads.close()
            self._board.close()
            raise

    def __enter__(self) -> JobService:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- taking jobs in ---

    def submit(
        self,
        values: Mapping[str, Any],
        picture: Path | None,
        owner: str = "local",
        *,
        clip: Path | None = None,
        last_picture: Path | None = None,
        pictures_at: Mapping[int, Path] | None = None,
        stop_at: int | None = None,
    ) -> str:
        """Check everything that can be checked, make the job folder, queue the job and return its id.

        `values` has the command line's keys; `picture` is what the video begins with, `last_picture` what it ends
        with, `pictures_at` what it shows at frames between, and `clip` a video that the new one is made from, of which
        the folder gets a copy. After step `stop_at` the job is laid down by itself, until `resume`. Raises UserError
        for whatever is wrong with the request, a picture, the clip, the model or the outputs folder, and when too many
        jobs wait already; nothing is left behind then.
        """
        return self._intake.submit(values, picture, clip, last_picture, owner, stop_at=stop_at, pictures_at=pictures_at)

    def retry(self, job_id: str, changes: Mapping[str, Any] | None = None, owner: str | None = None) -> str:
        """The job again, with `changes` to its values, as a new job. Where they leave the latents what they were, it
        goes on from what the first one had finished. A training is done again as it was. Raises UserError."""
        old = self._board.known(job_id)
        if old.task == "train":
            if changes:
                raise UserError("jobs.training_as_it_was", id=job_id)
            return self._intake.train(read_asked(self._board.folder(old)), old.entry, owner or old.owner, again=old)
        values = changed(values_of(old.request), changes)
        inputs, given = self._inputs_of(old), self._given_beside(old)
        return self._intake.submit(values, *inputs, owner or old.owner, again=old, **given)

    def train(self, values: Mapping[str, Any], owner: str = "local") -> str:
        """Queue a training and return the job's id. `values`: `training.asked.KEYS`, and "precision". What it learns
        lies in a folder of the training's name, from which another training of that name goes on. Raises UserError for
        whatever is wrong, and where a training of that name has not ended; nothing is left behind then."""
        asked = asked_training(values, self._settings, self._look_for_next())
        return self._intake.train(asked.to_json(), asked.wanted.entry, owner)

    def training(self, job_id: str) -> TrainingSeen:
        """What there is to see of a training. Raises UserError, for a job of another kind too."""
        return seen(self._board.status(job_id))

    def redecode(self, job_id: str, changes: Mapping[str, Any] | None = None, owner: str | None = None) -> str:
        """A new video from the latents of a job, or a draft from the checkpoint of one that has not finished; `changes`
        may name what is in DECODED_BY, which else is the job's own. The denoiser is not called. Raises UserError."""
        old = self._board.known(job_id)
        if old.task == "train":
            raise UserError("jobs.trains", id=job_id)
        if to_decode(self._board.folder(old)) is None:
            raise UserError("jobs.nothing_kept", id=job_id)
        allowed = {key: value for key, value in (changes or {}).items() if key in DECODED_BY}
        values = changed(values_of(old.request), {**allowed, "lora": None})  # their files need not be there any more
        inputs, given = self._inputs_of(old), self._given_beside(old)
        return self._intake.submit(values, *inputs, owner or old.owner, again=old, task="decode", **given)

    def extend(self, job_id: str, values: Mapping[str, Any] | None = None, owner: str | None = None) -> str:
        """A new video that shows a finished one and goes on from its last frame: for as many `seconds` as `values`
        says, to the nearest number of frames that the model makes. Raises UserError."""
        old, video = self._board.known(job_id), self.result(job_id)
        asked = (values or {}).get("seconds", MORE_SECONDS)
        seconds = Number(1 / old.request.fps, LONGEST_MORE_SECONDS).parse(asked, "seconds")
        longer = longer_by(old.request, seconds, SPECS[old.entry.family])
        return self._intake.submit(longer, self.last_frame(job_id), None, None, owner or old.owner, before=video)

    def last_frame(self, job_id: str) -> Path:
        """The last frame of a finished video, as a picture in its job's folder. Raises UserError."""
        video = self.result(job_id)
        picture = video.with_name(LAST_FRAME)
        if not picture.is_file():
            last_frame(video, picture)
        return picture

    def _before(self, job: StoredJob) -> Path | None:
        """The video that stands before the job's own frames."""
        return self._board.folder(job) / BEFORE if job.request.before else None

    def _inputs_of(self, job: StoredJob) -> tuple[Path | None, Path | None, Path | None]:
        """The picture that the video begins with, the clip, and the picture it ends with, in the job's folder."""
        folder, request = self._board.folder(job), job.request
        return (
            folder / PICTURE if request.image_path else None,
            folder / Path(request.clip_path).name if request.clip_path else None,
            folder / LAST_PICTURE if request.last_image_path else None,
        )

    def _given_beside(self, job: StoredJob) -> dict[str, Any]:
        """The video that stands before the job's own frames, and the pictures of frames between the first and the
        last, in the job's folder."""
        folder = self._board.folder(job)
        between = {one.at: folder / one.path for one in job.request.inputs if one.kind == "image" and (one.at or 0) > 0}
        return {"before": self._before(job), "pictures_at": between}

    def serving_at(self, address: str) -> None:
        """Say in the lease where the page is, for others on this computer who come to the same outputs folder."""
        try:
            self._board.lease.tell(address)
        except OSError as error:  # a full disk: they are told that the folder is taken, and not where to go
            log.warning("The page's address could not be written: %s", error)

    def get_ready(self) -> None:
        """Before anybody asks: measure the card where that was never done, start the planning child where the settings
        want that, and work out what each model would do here. Seconds."""
        with suppress(UserError, OSError):
            self.tidy()
        if self._plans is None:
            return
        if (gpu := self._look_at_machine().gpu) is not None:
            self._plans.measure_card(gpu)
        for entry in list_models(self._settings):
            self._plans.measure_disk(entry)
        if self._settings.preload:
            self._plans.warm_up()
        self.outlooks()  # kept, for who looks at the list first

    def resolve(self, values: Mapping[str, Any]) -> Resolved:
        """`values`, a request as far as it goes, completed, with what it names. Raises UserError."""
        return resolve(values, self._settings, to_run=False)

    def plan(
        self, values: Mapping[str, Any], *, exactly: bool = False, page: str | None = None
    ) -> tuple[Planned | None, tuple[Gain, ...]]:
        """`plan_of` what `values` come to."""
        return self.plan_of(self.resolve(values), exactly=exactly, page=page)

    def plan_of(
        self, resolved: Resolved, *, exactly: bool = False, page: str | None = None
    ) -> tuple[Planned | None, tuple[Gain, ...]]:
        """How a request would be run on the machine as it is now, and what closing other programs would gain. At once:
        None where nothing is known of such a job. Exactly: seconds for a new size.

        `page` tells who asks, where of all that it asks only the newest counts. Raises UserError, and Superseded
        where that page has asked anew."""
        if self._plans is None:
            raise UserError("planning.not_planned")
        asker = ANYBODY if page is None else self._plans.pages.asks(page)
        probe = self._look_for_next()
        asked = self._plans.asked(resolved, probe)
        planned = self._plans.exactly(asked, asker) if exactly else self._plans.at_once(asked)
        if exactly and not asker.still():
            raise Superseded
        others = probe.gpu.processes if probe.gpu and planned else ()
        return planned, tuple(self._plans.gains(asked, planned, others))

    def outlooks(self) -> list[Outlook]:
        """What every model of the catalogue would do on the machine as it is now, those first that will work best:
        its usual clip, by what is known. Milliseconds for each."""
        return self._outlooks.now(self._look_for_next())

    def said(self, values: Mapping[str, Any], page: str | None = None) -> tuple[Message, ...]:
        """What the model says of the sentence in `values`; see `Plans.said`. Raises as `plan` does."""
        if self._plans is None:
            return ()
        resolved = self.resolve(values)
        return self._plans.said(resolved.entry, resolved.request, page)

    def finds(self, values: Mapping[str, Any], photograph: bytes, page: str | None = None) -> str | None:
        """Where in `photograph` the model sees what the sentence in `values` asks for; see `Plans.finds`."""
        if self._plans is None:
            return None
        resolved = self.resolve(values)
        return self._plans.finds(resolved.entry, resolved.request, photograph, page)

    # --- telling ---

    def attach(self, job_id: str, after: int = -1) -> Iterator[tuple[int, Event]]:
        """The job's events with their numbers (from 0): those above `after` first, then each as it comes, to the
        final StateChanged. Raises UserError for an unknown id, at once."""
        return self._board.record(self._known(job_id)).follow(after)

    def events(self, job_id: str, after: int = -1) -> list[tuple[int, Event]]:
        """The job's events so far with a number above `after`. Raises UserError for an unknown id."""
        return self._board.record(self._known(job_id)).events(after)

    def status(self, job_id: str) -> JobStatus:
        """Where the job stands now. Raises UserError for an unknown id."""
        status = self._board.status(job_id)
        return self._in_line(status, self._turns()) if status.state == "queued" else status

    def jobs(
        self, owner: str | None = None, limit: int | None = None, states: Collection[State] | None = None
    ) -> list[JobStatus]:
        """The jobs in the list, oldest first; of one `owner`, in one of `states`, and the newest `limit`, where that
        is given."""
        found = self._board.statuses(owner, limit, states)
        # Every open page asks for this every second or two: the line is looked at once, not once for each job in it.
        line = self._turns() if any(one.state == "queued" for one in found) else {}
        return [self._in_line(one, line) for one in reversed(found)]

    def line(self, owner: str | None = None) -> list[str]:
        """The ids of the jobs that are at work or wait for their turn, in that order; of one `owner` where it is
        given. A job that was laid down does neither."""
        store = self._board.store
        at_work = reversed(store.jobs(states=AT_WORK, owner=owner))
        waiting = (job for job in store.waiting() if owner in (None, job.owner))
        return list(dict.fromkeys(job.id for job in (*at_work, *waiting)))  # one may begin between the two looks

    def owner(self, job_id: str) -> str:
        """Whose the job is, deleted or not. Raises UserError for an unknown id."""
        return self._board.store.get(job_id).owner

    def result(self, job_id: str) -> Path:
        """The finished video. Raises UserError when there is none (yet)."""
        status = self._board.status(job_id)
        if status.state != "done":
            raise UserError("jobs.not_done", id=job_id, state=status.state)
        if status.task == "train":
            raise UserError("jobs.trains", id=job_id)
        video = status.folder / VIDEO
        if not video.is_file():
            raise UserError("jobs.video_gone", path=str(video))
        return video

    def export(self, job_id: str, values: Mapping[str, Any] | None = None) -> Path:
        """The finished video as another file beside it in the job's folder: seconds. `values` has `EXPORT_KEYS`.
        Nothing is generated again. Raises UserError."""
        video = self.result(job_id)
        return export(video, self._board.status(job_id).request.video_fps, values or {})

    def steadiness(self, job_id: str) -> Steadiness:
        """How steady the finished video is; measured now, in seconds, where it was not when it was made. Raises
        UserError."""
        return steadiness_of(self.result(job_id))

    # --- steering ---

    def cancel(self, job_id: str) -> bool:
        """End the job: a waiting or paused one at once, a running one within a step. False when it had ended
        already. What it had finished stays in its folder."""
        with self._board.changed:  # until the wish is known: a job goes back in line when its worker dies
            step = self._board.record(job_id).progress.step
            if self._board.change(job_id, "cancelled", Cancelled(step), expected=("queued", "paused")):
                return True
            if self._board.status(job_id).state not in AT_WORK:
                return False
            self._lane.cancel(job_id)
            return True

    def pause(self, job_id: str) -> bool:
        """Lay the job down: a waiting one at once, a running one within a step, its progress on disk and its memory
        given back. False when it is paused already, or has ended."""
        with self._board.changed:  # as in `cancel`
            step = self._board.record(job_id).progress.step
            if self._board.change(job_id, "paused", Paused(step), expected=("queued",)):
                return True
            if self._board.status(job_id).state not in AT_WORK:
                return False
            self._lane.pause(job_id)
            return True

    def resume(self, job_id: str) -> bool:
        """Take a paused job up again, from where it was, when its turn comes; it is not stopped once more by itself.
        False when it is not paused; nothing has changed then."""
        resumed = self._board.change(job_id, "queued", expected=("paused",), planned=None)
        self._look_for_models()
        return resumed

    def pause_queue(self, paused: bool = True) -> None:
        """Start no further job, or go on; a job that runs is left alone. Kept over restarts."""
        with self._board.changed:
            self._board.store.pause_queue(paused)
            self._board.changed.notify_all()
        if paused:
            self._lane.rest()

    @property
    def queue_paused(self) -> bool:
        """Whether no further job is started."""
        return self._board.store.queue_paused

    def lend_card(self, lent: bool = True) -> None:
        """Lay the running job down and start no other, so that all of the card's memory is free; or go on."""
        self.pause_queue(lent)
        with self._board.changed:  # a wish that comes after its run would meet the next one
            running = self._lane.running
            if lent and running is not None:
                self._board.store.set_priority(running, 1)  # first, when the card is back
                self._lane.pause(running, message(LENT_OUT))
        if not lent:
            for job in self._board.store.jobs(states=("paused",)):
                if job.error is not None and job.error.id == LENT_OUT:
                    # Not `resume`: nobody has looked at a scout that had to make room, and it still stops by itself.
                    self._board.change(job.id, "queued", expected=("paused",))

    def move(self, job_id: str, position: int) -> None:
        """Put a waiting job at `position`, from 1, of its owner's own. Raises UserError, NotAllowed."""
        self._board.store.move(job_id, position)

    def set_priority(self, job_id: str, priority: int) -> None:
        """Higher runs first, whoever's it is; 0 is usual. Raises UserError."""
        self._board.store.set_priority(job_id, priority)

    def delete(self, job_id: str) -> None:
        """Put an ended job and all its files in the bin. Raises UserError."""
        self._board.delete(job_id)

    def restore(self, job_id: str) -> None:
        """Take a job out of the bin. Raises UserError."""
        self._board.restore(job_id)

    def tidy(self) -> int:
        """Remove what is beyond the budgets of the settings, never a video outside the bin; the bytes freed."""
        store = self._board.store
        freed = tidy(self._board.outputs_dir, store.jobs(), Budgets.of(self._settings))
        store.forget(freed.forgotten)
        return freed.size_bytes

    def held(self) -> dict[Kind, int]:
        """The bytes of each kind that tidying looks at. Raises OSError."""
        return held(self._board.outputs_dir, self._board.store.jobs())

    def runs(self) -> list[Entry]:
        """How runs went against their predictions, oldest first."""
        return self._plans.runs() if self._plans else []

    def close(self) -> None:
        """End the worker, whatever it does. Jobs that have not ended go on at the next start."""
        if self._intake.closed:
            return
        self._intake.closed = True
        if self._plans:
            self._plans.close()
        self._lane.close()
        if self.downloads is not None:
            self.downloads.close()
        self._board.close()

    def _known(self, job_id: str) -> str:
        self._board.status(job_id)
        return job_id

    def _turns(self) -> dict[str, Turn]:
        """When each waiting job has its turn: one that waits for its model has none yet."""
        store, running, models = self._board.store, self._lane.running, self._lane.models
        seconds = None if running else 0.0
        if running:
            with suppress(UserError):
                seconds = left(self._board.status(running), time.time())
        waiting = (job for job in store.waiting() if models.waits_for(job.id) is None)
        return turns(waiting, None if store.queue_paused else seconds)

    def _in_line(self, status: JobStatus, line: Mapping[str, Turn]) -> JobStatus:
        """A waiting job with its place in line and what it waits for; another as it is."""
        if status.state != "queued":
            return status
        return replace(at_its_turn(status, line), waits_for=self._lane.models.waits_for(status.id))

    def _look_for_models(self) -> None:
        """Jobs or downloads have changed: jobs may have their models now, need one, or have none to wait for."""
        if self.downloads is None or self._intake.closed:
            return
        self._lane.models.look()
        with self._board.changed:
            self._board.changed.notify_all()

    def _look_for_next(self) -> Probe:
        """The machine as it is for the next job."""
        return without_worker(self._look_at_machine(), self._lane.worker)

    def _look_at_machine(self) -> Probe:
        """The machine now. A warm worker keeps its card: what it holds there makes the other cards look freer."""
        probe, worker = self._probe.read(), self._lane.worker
        kept = [gpu for gpu in probe.gpus if worker and worker.card and gpu.uuid == worker.card]
        return replace(probe, gpu=kept[0]) if kept else probe
