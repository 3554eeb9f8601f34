"""The job that a page shows: its status, stage, curve and log, and the buttons that ask something of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gradio as gr

from i2v.events import FINAL_STATES
from i2v.jobs.job.again import DECODED_BY
from i2v.messages import Message, UserError, message
from i2v.settings.settings import Settings
from i2v.ui.api import unexpected
from i2v.ui.create.asking import asked_first
from i2v.ui.create.buttons import job_buttons, no_job_buttons
from i2v.ui.create.given import given, values_given
from i2v.ui.create.scout import Scout
from i2v.ui.gate.access import steers_all
from i2v.ui.gate.own import OwnJobs
from i2v.ui.shown import panels
from i2v.ui.shown.charts import memory_panel
from i2v.ui.shown.follow import Followers
from i2v.ui.shown.format import log_text
from i2v.ui.shown.view import Shown
from i2v.ui.texts import known, text

if TYPE_CHECKING:
    from i2v.jobs.service import JobService


class JobPanel:
    """Callbacks of the components in `_job_outputs`, which the page lays out."""

    service: JobService
    settings: Settings
    followers: Followers
    job_id: gr.BrowserState
    shown: gr.State
    timer: gr.Timer
    status: gr.HTML
    stage: gr.HTML
    memory: gr.HTML
    log: gr.HTML
    generate: gr.Button
    cancel: gr.Button
    pause: gr.Button
    retry: gr.Button
    redecode: gr.Button
    next: gr.Button
    unhold: gr.Button
    told: gr.HTML
    question: gr.Textbox
    ended: gr.Textbox
    scout: Scout

    @property
    def _job_outputs(self) -> list[Any]:
        return [
            *(self.shown, self.status, self.stage, self.memory, self.log),
            *(self.generate, self.cancel, self.pause, self.retry, self.redecode, self.next),
            *(self.timer, self.told, self.unhold, self.ended, self.job_id),
        ]

    def _asked_first(
        self,
        request: gr.Request | None,
        locale: str,
        agreed: Any,
        job_id: str,
        picture: Any,
        clip: Any,
        last: Any,
        *raw: Any,
    ) -> list[Any]:
        """A job, or in its place what to ask before one of hours, as the last output, unless that was `agreed` to."""
        values = values_given(raw, self.settings)
        if agreed is not True and (question := asked_first(self.service, values, known(locale))):
            return [*[gr.skip()] * len(self._job_outputs), question]
        return [*self._generate(request, locale, job_id, picture, clip, last, *raw), ""]

    def _generate(
        self, request: gr.Request | None, locale: str, job_id: str, picture: Any, clip: Any, last: Any, *raw: Any
    ) -> list[Any]:
        """A job of the form as it is. The page goes on showing an earlier one that has not ended: that the new one
        waits stands in its status."""
        own = OwnJobs.of(self.service, request)

        def submit() -> str:
            asked = given(picture, clip, last, raw, self.settings)
            made = own.submit(asked.values, asked.picture, clip=asked.clip, last_picture=asked.last_picture)
            return job_id if self._is_live(own, job_id) else made

        return self._show_new(request, submit, locale, job_id)

    def _next(self, request: gr.Request | None, job_id: str, shown: Shown, locale: str) -> list[Any]:
        """The job that is at work, or will be next, in place of one that has ended."""
        waiting = self._waiting(OwnJobs.of(self.service, request), job_id)
        return self._look(request, waiting[0] if waiting else job_id, Shown(left=job_id), locale)

    def _is_live(self, own: OwnJobs, job_id: str) -> bool:
        try:
            return bool(job_id) and own.status(job_id).state not in FINAL_STATES
        except UserError:
            return False

    def _waiting(self, own: OwnJobs, besides: str) -> list[str]:
        """The owner's other jobs that are at work or wait for their turn, in that order."""
        return [job_id for job_id in self.service.line(own.who) if job_id != besides]

    def _retry(self, request: gr.Request | None, job_id: str, _shown: Shown, locale: str) -> list[Any]:
        return self._show_new(request, lambda: OwnJobs.of(self.service, request).retry(job_id), locale, job_id)

    def _redecode(self, request: gr.Request | None, job_id: str, _shown: Shown, locale: str, *raw: Any) -> list[Any]:
        changes = {name: value for name, value in zip(DECODED_BY, raw, strict=True) if value not in (None, "")}
        return self._show_new(
            request, lambda: OwnJobs.of(self.service, request).redecode(job_id, changes), locale, job_id
        )

    def _show_new(self, request: gr.Request | None, make: Callable[[], str], locale: str, left: str = "") -> list[Any]:
        """The job that `make` sends off, from its start, in place of the one that is `left`; or why it cannot be."""
        locale = known(locale)
        try:
            return self._look(request, make(), Shown(left=left), locale)
        except UserError as error:
            return self._refused(error.message, locale)
        except Exception as error:
            return self._refused(unexpected(error, self.settings).message, locale)

    def _cancel(self, request: gr.Request | None, job_id: str, shown: Shown, locale: str) -> list[Any]:
        try:
            OwnJobs.of(self.service, request).cancel(job_id)
        except UserError as error:
            return self._refused(error.message, known(locale))
        return self._look(request, job_id, shown, locale, wish="cancel")

    def _pause(self, request: gr.Request | None, job_id: str, shown: Shown, locale: str) -> list[Any]:
        """What the button said: lay the job down, or let it go on."""
        own = OwnJobs.of(self.service, request)
        try:
            (own.resume if shown.paused else own.pause)(job_id)
        except UserError as error:
            return self._refused(error.message, known(locale))
        return self._look(request, job_id, shown, locale, wish="" if shown.paused else "pause")

    def _unhold(self, request: gr.Request | None, job_id: str, shown: Shown, locale: str) -> list[Any]:
        """Let the queue go on, which was paused."""
        try:
            OwnJobs.of(self.service, request).pause_queue(False)
        except UserError as error:
            return self._refused(error.message, known(locale))
        return self._look(request, job_id, shown, locale, wish="")

    def _look(
        self,
        request: gr.Request | None,
        job_id: str,
        shown: Shown,
        locale: str,
        scouts: Any = None,
        *,
        wish: str | None = None,
    ) -> list[Any]:
        """Updates for the outputs of a job, in the order of `_job_outputs`; what the browser has already is skipped.
        `scouts` is what the browser keeps of them. `wish` is what was just asked of the job; None where nothing was."""
        locale = known(locale)
        if not job_id:
            return self._nothing(None, locale, self.scout.status(request, scouts, locale))
        if shown.job_id and shown.left == job_id:
            return [gr.skip()] * len(self._job_outputs)
        own = OwnJobs.of(self.service, request)
        try:
            job = own.status(job_id)
            view = self.followers.view(job_id)
        except UserError:
            told = message("ui.state_lost", id=job_id)
            return self._nothing(told, locale, self.scout.status(request, scouts, locale))
        answered = wish is not None or shown.job_id != job_id
        if wish is None:
            wish = shown.wish if shown.job_id == job_id else ""
        if view.progress.final or (wish, view.progress.state) == ("pause", "paused"):
            wish = ""
        starts_in = round((job.starts_in or 0) / 10) * 10
        paused = view.progress.state == "paused"
        waiting = len(self._waiting(own, job_id))
        left = shown.left if shown.job_id in ("", job_id) and shown.left != job_id else ""
        held = view.progress.state == "queued" and self.service.queue_paused
        others = view.progress.state == "queued" and own.others_at_work()
        now = Shown(
            job_id=job_id,
            revision=view.revision,
            position=job.position,
            starts_in=starts_in,
            stage=view.stage,
            locale=locale,
            wish=wish,
            paused=paused,
            waiting=waiting,
            left=left,
            held=held,
            others=others,
            waits_for=job.waits_for.render(locale) if job.waits_for else "",
        )
        if now == shown:
            return [gr.skip()] * len(self._job_outputs)
        same_stage = (now.job_id, now.stage, locale) == (shown.job_id, shown.stage, shown.locale)
        return [
            now,
            panels.status(
                view,
                job.position,
                wish,
                locale,
                starts_in,
                waiting,
                held=held,
                others=others,
                waits_for=job.waits_for,
            ),
            gr.skip() if same_stage else panels.stage(view, job.request, job.folder, locale),
            memory_panel(view.samples, job.plan.memory_cap_bytes, locale),
            panels.log_panel(log_text(view, locale), locale),
            gr.update(value=text("generate" if view.progress.final else "generate_more", locale)),
            *job_buttons(view, wish, job.folder, locale),
            gr.update(visible=view.progress.final and waiting > 0, value=text("show_next", locale)),
            gr.update(active=not view.progress.final or waiting > 0),
            "" if answered else gr.skip(),
            gr.update(visible=held and steers_all(own.who), value=text("queue_unpause", locale)),
            job_id if view.progress.final else "",
            gr.skip() if shown.job_id == job_id else job_id,
        ]

    def _nothing(self, told: Message | None, locale: str, status: str) -> list[Any]:
        """The outputs of a page without a job."""
        return [
            Shown(),
            status,
            panels.empty_stage(locale),
            memory_panel((), None, locale),
            panels.log_panel("", locale),
            gr.update(value=text("generate", locale)),
            *no_job_buttons(),
            gr.update(visible=False),
            gr.update(active=False),
            panels.problem(told, locale) if told else gr.skip(),
            gr.update(visible=False),
            "",
            "",
        ]

    def _refused(self, told: Message, locale: str) -> list[Any]:
        """Why nothing happened; everything else stays as it is."""
        return [panels.problem(told, locale) if out is self.told else gr.skip() for out in self._job_outputs]
