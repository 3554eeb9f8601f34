"""The page: one Blocks that shows a form, follows a job and survives reloads.

Pressing Generate hands the request to the service and keeps only the job's id, in the browser. A timer reads the
job's view; a reload finds the id again and goes on reading. Closing the page changes nothing.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from i2v.families import SPECS
from i2v.hardware import MemoryProbe
from i2v.messages import DEFAULT_LOCALE, Message, UserError, message
from i2v.models.catalogue import find_model, list_models
from i2v.request import AUTO, PlanOptions
from i2v.settings import Settings
from i2v.ui import panels, plan_card
from i2v.ui.api import add_endpoints, unexpected, uploaded_path
from i2v.ui.charts import memory_chart
from i2v.ui.follow import Followers
from i2v.ui.form import (
    AUTO_FIELDS,
    FIELDS,
    NUMBERS,
    SEED_LIMIT,
    Form,
    auto_updates,
    build_form,
    default_numbers,
    form_values,
    model_choices,
    model_message,
    request_values,
)
from i2v.ui.format import log_text
from i2v.ui.secret import browser_secret
from i2v.ui.texts import LANGUAGE_CHOICES, build_i18n, known
from i2v.video.picture import load_picture

if TYPE_CHECKING:
    from i2v.jobs.service import JobService

TICK_SECONDS = 0.7
PLANNED_BY = ("model", "width", "height", "frames", "steps", "guidance", "preset")
"""What a plan depends on, beside the fields that stand on auto."""
NEAREST = ("width", "height", "frames")
_DAY = 86400


@dataclass(frozen=True)
class Shown:
    """What a browser tab shows of its job, so that a tick sends only what is new."""

    job_id: str = ""
    revision: int = -1
    position: int = 0
    stage: str = ""
    locale: str = ""
    cancelling: bool = False


def build_page(service: JobService, settings: Settings, probe: MemoryProbe) -> gr.Blocks:
    """The page's Blocks, ready to be mounted; named endpoints included."""
    return _Page(service, settings, probe).blocks


class _Page:
    """Components and callbacks of one page. Holds nothing about a visitor: that is all in the browser."""

    def __init__(self, service: JobService, settings: Settings, probe: MemoryProbe) -> None:
        self.service = service
        self.settings = settings
        self.probe = probe
        self.followers = Followers(service)
        self.first_locale = settings.language if settings.language != "auto" else DEFAULT_LOCALE
        # Uploads older than a day go: a job keeps its own copy of the picture.
        with gr.Blocks(title="I2V", analytics_enabled=False, delete_cache=(3600, _DAY)) as self.blocks:
            self._lay_out()
            self._connect()
            add_endpoints(service, settings)

    def _lay_out(self) -> None:
        i18n = build_i18n()
        locale = self.first_locale
        models = list_models(self.settings)
        chosen = find_model(self.settings.model, self.settings).name
        self.job_id = gr.BrowserState("", storage_key="i2v-job", secret=browser_secret())
        self.shown = gr.State(Shown())
        self.timer = gr.Timer(TICK_SECONDS, active=False)
        with gr.Row(elem_id="i2v-top"):
            self.header = gr.HTML(panels.header(self.probe.read(), self.settings.preset, locale), elem_id="i2v-header")
            self.language = gr.Radio(
                LANGUAGE_CHOICES, value=locale, show_label=False, container=False, scale=0, elem_id="i2v-language"
            )
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320):
                self.form: Form = build_form(self.settings, models, chosen, locale, i18n)
                with gr.Row(elem_id="i2v-actions"):
                    self.generate = gr.Button(i18n("ui.generate"), variant="primary", elem_id="i2v-generate")
                    self.cancel = gr.Button(i18n("ui.cancel"), interactive=False, elem_id="i2v-cancel")
            with gr.Column(scale=6, min_width=320):
                self.status = gr.HTML(panels.ready(locale), elem_id="i2v-status")
                self.stage = gr.HTML(panels.empty_stage(locale), elem_id="i2v-stage")
                self.plan = gr.HTML(plan_card.planning(locale), elem_id="i2v-plan")
                self.nearest = gr.Button(visible=False, size="sm", elem_id="i2v-nearest")
                self.nearest_job = gr.State(None)
                self.memory = gr.HTML(memory_chart((), None, locale), elem_id="i2v-memory")
                with gr.Accordion(i18n("ui.log"), open=True):
                    self.log = gr.HTML(panels.log(""), elem_id="i2v-log")

    @property
    def _job_outputs(self) -> list[Any]:
        return [
            *(self.shown, self.status, self.stage, self.memory, self.log),
            *(self.generate, self.cancel, self.timer, self.job_id),
        ]

    def _connect(self) -> None:
        quiet: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        form = self.form
        autos = [form.fields[name] for name in AUTO_FIELDS]
        numbers = [form.fields[name] for name in NUMBERS]
        model = form.fields["model"]
        choices = [self.language, form.fields["preset"], model]
        rendered = [self.language, self.header, model, form.model_note, *autos]
        following = [self.job_id, self.shown, self.language]
        self.blocks.load(self._localized, choices, rendered, js="(_, p, m) => [window.i2vLanguage(), p, m]", **quiet)
        self.blocks.load(
            self._restored,
            [self.job_id, self.language],
            [*self._job_outputs, form.picture, *form.inputs],
            js="(id, _) => [id, window.i2vLanguage()]",
            **quiet,
        )
        switched = self.language.input(
            self._localized, choices, rendered, js="(l, p, m) => [window.i2vSetLanguage(l), p, m]", **quiet
        )
        switched.then(self._look, following, self._job_outputs, **quiet)
        shape = [*choices, form.picture]
        for changed in (form.fields["preset"], model):
            changed.input(self._chosen, shape, [form.model_note, *autos, *numbers], preprocess=False, **quiet)
        form.picture.input(self._pictured, shape, [self.status, *numbers[:2]], preprocess=False, **quiet)
        form.dice.click(lambda: random.randrange(SEED_LIMIT), None, form.fields["seed"], **quiet)
        # At once from what is known; then exactly, seconds for a new size. Of many changes in a row
        # the last one counts.
        planning = [self.language, *form.inputs]
        planned = [self.plan, self.nearest, self.nearest_job]
        late: dict[str, Any] = {**quiet, "preprocess": False, "trigger_mode": "always_last"}
        changes = [self.blocks.load, *(form.fields[name].change for name in (*PLANNED_BY, *AUTO_FIELDS))]
        gr.on(changes, self._plan_at_once, planning, planned, **late).then(
            self._plan_exactly, planning, planned, **late
        )
        self.nearest.click(
            lambda job: job or [gr.skip()] * 3, self.nearest_job, [form.fields[n] for n in NEAREST], **quiet
        )
        # Values arrive as sent: the service checks them all, and says what is wrong with a picture in plain words.
        self.generate.click(
            self._generate,
            [self.language, form.picture, *form.inputs],
            self._job_outputs,
            preprocess=False,
            **quiet,
        )
        self.cancel.click(self._cancel, following, self._job_outputs, **quiet)
        self.timer.tick(self._look, following, self._job_outputs, **quiet)

    def _localized(self, locale: str, preset: str, model: str) -> list[Any]:
        """Everything rendered here, in the reader's language."""
        locale = known(locale)
        header = panels.header(self.probe.read(), self.settings.preset, locale)
        models = gr.update(choices=model_choices(list_models(self.settings), locale))
        note = self._model_note(model, locale)
        return [locale, header, models, note, *auto_updates(self._under(preset), locale)]

    def _restored(self, job_id: str, locale: str) -> list[Any]:
        """A page that opens: the job it was showing, if any, and the form as that job was asked for."""
        updates = self._look(job_id, Shown(), locale)
        try:
            job = self.service.status(job_id)
        except UserError:
            return updates + [gr.skip()] * (len(FIELDS) + 1)
        return [*updates, str(job.folder / "input.png"), *form_values(job.request)]

    def _chosen(self, locale: str, preset: str, model: str, picture: Any) -> list[Any]:
        """What follows from another model or preset: its note, what auto means, the defaults."""
        locale = known(locale)
        numbers = self._numbers(preset, model, picture)
        return [self._model_note(model, locale), *auto_updates(self._under(preset), locale), *numbers]

    def _pictured(self, locale: str, preset: str, model: str, picture: Any) -> list[Any]:
        """The video's size after the picture's shape; a picture that cannot be read is told of at once."""
        try:
            width, height, *_ = self._numbers(preset, model, picture, strict=True)
        except UserError as error:
            return [panels.problem(error.message, known(locale)), gr.skip(), gr.skip()]
        return [gr.skip(), width, height]

    def _numbers(self, preset: str, model: str, picture: Any, *, strict: bool = False) -> list[float]:
        size = None
        try:
            path = uploaded_path(picture)
            size = load_picture(path, max_megapixels=self.settings.max_picture_megapixels).size if path else None
        except UserError:
            if strict:
                raise
        spec = SPECS[find_model(model, self.settings).family]
        return list(default_numbers(spec, self._under(preset), size).values())

    def _under(self, preset: str) -> Settings:
        """The settings under the preset that the form has chosen."""
        return self.settings.with_overrides(PlanOptions(preset=None if preset == AUTO else preset))

    def _model_note(self, name: str, locale: str) -> str:
        try:
            entry = find_model(name, self.settings)
        except UserError as error:
            return panels.note(error.message.render(locale))
        told = model_message(entry)
        return panels.note(told.render(locale), calm=entry.present and not entry.standin) if told else ""

    def _plan_at_once(self, locale: str, *raw: Any) -> list[Any]:
        return self._plan(known(locale), raw, exactly=False)

    def _plan_exactly(self, locale: str, *raw: Any) -> list[Any]:
        return self._plan(known(locale), raw, exactly=True)

    def _plan(self, locale: str, raw: Sequence[Any], *, exactly: bool) -> list[Any]:
        """The plan card, and the button that takes the nearest settings that fit."""
        hidden = [gr.update(visible=False), None]
        try:
            planned, gains = self.service.plan(request_values(raw), exactly=exactly)
        except UserError as error:
            return [plan_card.no_plan(error.message, locale), *hidden]
        except Exception as error:
            return [plan_card.no_plan(unexpected(error, self.settings).message, locale), *hidden]
        if planned is None:
            return [plan_card.planning(locale), *hidden]
        card = plan_card.plan_card(planned, gains, locale)
        if not planned.nearest:
            return [card, *hidden]
        job = planned.nearest[0]
        label = message("ui.plan_take_nearest", width=job.width, height=job.height, frames=job.num_frames)
        button = gr.update(visible=True, value=label.render(locale))
        return [card, button, [job.width, job.height, job.num_frames]]

    def _generate(self, locale: str, picture: Any, *raw: Any) -> list[Any]:
        locale = known(locale)
        try:
            path = uploaded_path(picture)
            if path is None:
                raise UserError("ui.no_picture")
            job_id = self.service.submit(request_values(raw), path)
            return self._look(job_id, Shown(), locale)
        except UserError as error:
            return self._refused(error.message, locale)
        except Exception as error:
            return self._refused(unexpected(error, self.settings).message, locale)

    def _cancel(self, job_id: str, shown: Shown, locale: str) -> list[Any]:
        try:
            self.service.cancel(job_id)
        except UserError as error:
            return self._refused(error.message, known(locale))
        return self._look(job_id, shown, locale, cancelling=True)

    def _look(self, job_id: str, shown: Shown, locale: str, *, cancelling: bool = False) -> list[Any]:
        """Updates for the outputs of a job, in the order of `_job_outputs`; what the browser has already is skipped."""
        locale = known(locale)
        if not job_id:
            return self._nothing(None, locale)
        try:
            view, job = self.followers.view(job_id), self.service.status(job_id)
        except UserError:
            return self._nothing(message("ui.state_lost", id=job_id), locale)
        cancelling = (cancelling or (shown.cancelling and shown.job_id == job_id)) and not view.final
        now = Shown(job_id, view.revision, job.position, view.stage, locale, cancelling)
        if now == shown:
            return [gr.skip()] * len(self._job_outputs)
        same_stage = (now.job_id, now.stage, locale) == (shown.job_id, shown.stage, shown.locale)
        return [
            now,
            panels.status(view, job.position, cancelling, locale),
            gr.skip() if same_stage else panels.stage(view, job.request, job.folder, locale),
            memory_chart(view.samples, job.plan.memory_cap_bytes, locale),
            panels.log(log_text(view, locale)),
            gr.update(interactive=view.final),
            gr.update(interactive=not view.final and not cancelling),
            gr.update(active=not view.final),
            gr.skip() if shown.job_id == job_id else job_id,
        ]

    def _nothing(self, told: Message | None, locale: str) -> list[Any]:
        """The outputs of a page without a job."""
        return [
            Shown(),
            panels.problem(told, locale) if told else panels.ready(locale),
            panels.empty_stage(locale),
            memory_chart((), None, locale),
            panels.log(""),
            gr.update(interactive=True),
            gr.update(interactive=False),
            gr.update(active=False),
            "",
        ]

    def _refused(self, told: Message, locale: str) -> list[Any]:
        """Why nothing happened; everything else stays as it is."""
        return [gr.skip(), panels.problem(told, locale), *[gr.skip()] * (len(self._job_outputs) - 2)]
