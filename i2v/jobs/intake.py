"""Taking jobs in: everything that can be checked is, then a job has its folder and its row, both or neither."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from i2v.events import Event
from i2v.hardware.probe import Probe
from i2v.jobs.asked.plans import Plans, plan_notes
from i2v.jobs.asked.prepare import Resolved, build_plan, resolve, visible_card
from i2v.jobs.asked.training import shown_as
from i2v.jobs.job.again import carry_over, same_latents, shows_alike
from i2v.jobs.job.folder import (
    BEFORE,
    CLIP,
    LAST_PICTURE,
    PICTURE,
    PICTURE_AT,
    create_job_folder,
    folder_name,
    new_job_id,
)
from i2v.jobs.job.states import LIVE
from i2v.jobs.job.stored import StoredJob, Task
from i2v.jobs.list.board import Board
from i2v.messages import UserError
from i2v.models.entry import ModelEntry
from i2v.request import Input
from i2v.settings.settings import Settings
from i2v.training.request import TrainingPlan, TrainingRequest
from i2v.video import region
from i2v.video.picture import load_picture
from i2v.whole_file import discard_folder


class JobIntake:
    """Takes jobs in for a service. Any thread may call."""

    def __init__(
        self,
        board: Board,
        settings: Settings,
        plans: Plans | None,
        look: Callable[[], Probe],
        own: set[str] | None,
        on_added: Callable[[], None] = lambda: None,
    ) -> None:
        """`look` reads the machine as it is for the next job. The ids of new jobs go into `own`, where it is given.
        `on_added` is called after each new one."""
        self._board = board
        self._settings = settings
        self._plans = plans
        self._look = look
        self._own = own
        self._on_added = on_added
        self.closed = False
        """Once true, every job is refused."""

    def submit(
        self,
        values: Mapping[str, Any],
        picture: Path | None,
        clip: Path | None,
        last_picture: Path | None,
        owner: str,
        again: StoredJob | None = None,
        task: Task = "generate",
        stop_at: int | None = None,
        before: Path | None = None,
        pictures_at: Mapping[int, Path] | None = None,
    ) -> str:
        """`pictures_at`: those of frames between the first and the last. `before`: a video that is to stand before the
        new frames; left out where those have come to be of another size or rate than those of the job that is done
        `again`."""
        self._refuse_if_full()
        self._board.refuse_if_too_fast(owner, time.time(), self._settings.max_jobs_per_minute)
        # Pictures and clip are those handed over: a client's words must not name files of this computer.
        files = {"image": picture, "last_image": last_picture, "video": clip}
        names = {key: str(file) if file else None for key, file in files.items()}
        resolved = resolve({**values, **names, "image_at": pictures_at}, self._settings, only_decodes=task == "decode")
        most = self._settings.max_picture_megapixels
        image, last_image = (
            load_picture(file, max_megapixels=most) if file else None for file in (picture, last_picture)
        )
        between = {frame: load_picture(file, max_megapixels=most) for frame, file in (pictures_at or {}).items()}
        if resolved.request.region is not None and image is not None:
            region.check_shape(region.read(resolved.request.region).size, image.size)
        request = replace(resolved.request, inputs=_stored(resolved))
        if before is not None and (again is None or shows_alike(again.request, request)):
            request = replace(request, before=BEFORE)
        if again is not None and task == "decode":
            request = replace(request, adapters=again.request.adapters)
        resolved = replace(resolved, request=request)
        probe = self._look()
        decodes_as = self._board.record(again.id).status().plan if again is not None and task == "decode" else None
        plan, notes = build_plan(resolved, probe, decodes_as=decodes_as)
        seconds = None
        if self._plans is not None and task == "generate":
            planned = self._plans.to_queue(self._plans.asked(resolved, probe))
            request, plan, notes = planned.request, planned.plan, (*notes, *plan_notes(planned))
            seconds = planned.prediction.seconds

        now = datetime.now()
        job_id = new_job_id(now)
        job = StoredJob(
            id=job_id, folder=folder_name(job_id, now), request=request, plan=plan, entry=resolved.entry,
            submitted=now.timestamp(), owner=owner, card=visible_card(plan, probe), seconds_predicted=seconds,
            parent=again.id if again else None, task=task, planned=None if stop_at is None else {"stop_at": stop_at},
        )  # fmt: skip

        def make_folder() -> None:
            made = create_job_folder(
                self._settings.outputs_dir, job_id, now, request, plan, image, job.ticket(), clip, before,
                last_picture=last_image, pictures_at=between,
            )  # fmt: skip
            if again is not None and (task == "decode" or same_latents(again.request, request)):
                carry_over(self._board.folder(again), made, task)

        return self._put_in_line(job, make_folder, notes)

    def train(
        self, asked: Mapping[str, Any], entry: ModelEntry | None, owner: str, again: StoredJob | None = None
    ) -> str:
        """Queue the training that `asked` says (`AskedTraining.to_json`)."""
        self._refuse_if_full()
        self._board.refuse_if_too_fast(owner, time.time(), self._settings.max_jobs_per_minute)
        wanted, plan = TrainingRequest.from_json(asked["request"]), TrainingPlan.from_json(asked["plan"])
        request, shown_plan = shown_as(wanted, plan)
        for other in self._board.store.jobs(states=LIVE):
            if other.task == "train" and other.request.prompt == request.prompt:  # the name, and so the work folder
                raise UserError("jobs.training_under_way", name=wanted.name, id=other.id)
        now = datetime.now()
        job_id = new_job_id(now)
        job = StoredJob(
            id=job_id, folder=folder_name(job_id, now), request=request, plan=shown_plan, entry=entry,
            submitted=now.timestamp(), owner=owner, card=visible_card(shown_plan, self._look()),
            parent=again.id if again else None, task="train",
        )  # fmt: skip

        def make_folder() -> None:
            create_job_folder(
                self._settings.outputs_dir, job_id, now, request, shown_plan, None, job.ticket(), training=asked
            )

        return self._put_in_line(job, make_folder, ())

    def _put_in_line(self, job: StoredJob, make_folder: Callable[[], None], notes: Collection[Event]) -> str:
        """Make the job's folder and its row, both or neither; the job's id. Raises UserError."""
        job_id, folder = job.id, self._board.folder(job)
        try:
            make_folder()
            if self._own is not None:
                self._own.add(job_id)
            self._refuse_if_full()  # again: others may have come while the picture was read
            limits = self._settings
            self._board.add(
                job, notes, max_waiting=limits.max_queue, max_of_owner=limits.max_queue_per_owner,
                max_per_minute=limits.max_jobs_per_minute,
            )  # fmt: skip
        except BaseException as error:
            # Ctrl-C too: a folder without a row is taken in and run by the next start. A row without its folder would
            # be worse, so with anything but a refusal, which says that nothing has changed, the list is asked.
            if isinstance(error, UserError) or not self._board.knows(job_id):
                discard_folder(folder)
            raise
        self._on_added()
        return job_id

    def _refuse_if_full(self) -> None:
        if self.closed:
            raise UserError("jobs.closed")
        if sum(self._board.store.count(("queued",)).values()) >= self._settings.max_queue:
            raise UserError("jobs.queue_full", limit=self._settings.max_queue)


def _stored(resolved: Resolved) -> tuple[Input, ...]:
    """The inputs of a request under the names that they have in the job's folder."""
    clip = CLIP + (resolved.clip.suffix if resolved.clip else "")
    names = {("image", 0): PICTURE, ("image", -1): LAST_PICTURE, ("video", None): clip}
    return tuple(
        replace(one, path=names.get((one.kind, one.at)) or PICTURE_AT.format(one.at)) for one in resolved.request.inputs
    )
