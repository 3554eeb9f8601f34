"""The page: one Blocks that shows a form, follows a job and survives reloads.

Pressing Generate hands the request to the service and keeps only the job's id, in the browser. A timer reads the
job's view; a reload finds the id again and goes on reading. Closing the page changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from PIL import Image

from i2v.events import FINAL_STATES
from i2v.families import SPECS
from i2v.hardware.probe import MemoryProbe
from i2v.jobs.job.again import DECODED_BY
from i2v.messages import DEFAULT_LOCALE, Message, UserError
from i2v.models.catalogue import ModelEntry, find_model, list_models
from i2v.settings.settings import Settings
from i2v.ui.api import add_endpoints, uploaded_path
from i2v.ui.create import plan_card
from i2v.ui.create.add_loras import connect_adding
from i2v.ui.create.answers import Answers, PlanPanel
from i2v.ui.create.asking import agreed, asks
from i2v.ui.create.brush import NOTHING_PAINTED, connect_brush
from i2v.ui.create.choose_loras import connect_loras
from i2v.ui.create.choose_model import connect_models
from i2v.ui.create.clip import connect_clip
from i2v.ui.create.cut import connect_cut
from i2v.ui.create.examples import connect_examples
from i2v.ui.create.fast import connect_fast
from i2v.ui.create.first_model import first_model
from i2v.ui.create.form import (
    AUTO_FIELDS,
    FIELDS,
    NUMBERS,
    Form,
    auto_updates,
    build_form,
    default_numbers,
    form_values,
    model_choices,
)
from i2v.ui.create.job_panel import JobPanel
from i2v.ui.create.kept import KeptForm, Tickets
from i2v.ui.create.last_picture import connect_last_picture
from i2v.ui.create.numbers import SETTING_AT, Chosen, KeptNumbers, key_of, numbers_for
from i2v.ui.create.remove_loras import connect_removing
from i2v.ui.create.restore import connect_restore, restore_button
from i2v.ui.create.scout import Scout, Scouts
from i2v.ui.create.seed import connect_seed
from i2v.ui.create.sentence import connect_sentence
from i2v.ui.create.shape import connect_shape, under_preset, usual_shape
from i2v.ui.create.task import Dropped, frames_within
from i2v.ui.gallery.tab import GalleryTab
from i2v.ui.gate.access import owner_of
from i2v.ui.gate.own import OwnJobs
from i2v.ui.gate.secret import browser_secret, upload_secret
from i2v.ui.gate.visitor import connect_visitor, visitor_notice
from i2v.ui.queue.tab import QueueTab
from i2v.ui.shown import panels
from i2v.ui.shown.charts import memory_panel
from i2v.ui.shown.follow import Followers
from i2v.ui.shown.picture import for_browsers
from i2v.ui.shown.posters import Posters
from i2v.ui.shown.sources import sources_of
from i2v.ui.shown.view import Shown
from i2v.ui.system.endpoints import add_download_endpoints
from i2v.ui.system.tab import SystemTab
from i2v.ui.tabs import LANGUAGE, QUIET
from i2v.ui.texts import LANGUAGE_CHOICES, build_i18n, known
from i2v.ui.train.endpoints import add_training_endpoints
from i2v.ui.train.tab import TrainTab
from i2v.video.clip import clip_facts
from i2v.video.picture import load_picture

if TYPE_CHECKING:
    from i2v.jobs.service import JobService

TICK_SECONDS = 0.7
CREATE = "create"
"""The id of the tab with the form."""
LOOKED_AT = 20  # newest jobs, among which a page that opens looks for one that has not ended


def build_page(service: JobService, settings: Settings, probe: MemoryProbe) -> gr.Blocks:
    """The page's Blocks, ready to be mounted; named endpoints included."""
    return _Page(service, settings, probe).blocks


class _Page(JobPanel):
    """Components and callbacks of one page. Holds nothing about a visitor: that is all in the browser."""

    def __init__(self, service: JobService, settings: Settings, probe: MemoryProbe) -> None:
        self.service = service
        self.settings = settings
        self.probe = probe
        self.followers = Followers(service)
        self.tickets = Tickets(upload_secret())
        self.first_locale = settings.language if settings.language != "auto" else DEFAULT_LOCALE
        # Uploads older than a day go: a job keeps its own copy of the picture.
        with gr.Blocks(title="I2V", analytics_enabled=False, delete_cache=(3600, 86400)) as self.blocks:
            self._lay_out()
            self._connect()
            add_endpoints(service, settings)
            add_training_endpoints(service, settings)
            add_download_endpoints(service, settings)

    def _lay_out(self) -> None:
        i18n = build_i18n()
        locale = self.first_locale
        models = list_models(self.settings)
        self.first = first_model(self.service, self.settings, self.probe.read())
        self.job_id = gr.BrowserState("", storage_key="i2v-job", secret=browser_secret())
        self.shown = gr.State(Shown())
        # Not a State: where nothing goes through Gradio's queue, a browser does not hear that one has changed.
        self.ended = gr.Textbox(visible="hidden", elem_id="i2v-ended")
        self.timer = gr.Timer(TICK_SECONDS, active=False)
        with gr.Row(elem_id="i2v-top"):
            self.header = gr.HTML(panels.header(self.probe.read(), self.settings.preset, locale), elem_id="i2v-header")
            self.language = gr.Radio(
                LANGUAGE_CHOICES,
                value=locale,
                label="Language · 语言",
                show_label=False,
                container=False,
                scale=0,
                elem_id="i2v-language",
            )
        connect_visitor(visitor_notice(), self.blocks, self.language)
        with gr.Tabs(selected=CREATE, overflow_behavior="wrap", elem_id="i2v-tabs") as self.tabs:
            with gr.Tab(i18n("ui.tab_create"), id=CREATE) as tab:
                self._lay_out_create(i18n, locale, models)
            self.named_tabs = {"ui.tab_create": tab}
            posters = Posters()
            with gr.Tab(i18n("ui.tab_queue"), id="queue") as tab:
                self.named_tabs["ui.tab_queue"] = tab
                self.queue_tab = queue = QueueTab(
                    self.service, self.followers, posters, self.tabs, tab, self.language, locale, i18n,
                    card=self.probe.read().gpu is not None,
                )  # fmt: skip
            with gr.Tab(i18n("ui.tab_gallery"), id="gallery") as tab:
                self.named_tabs["ui.tab_gallery"] = tab
                GalleryTab(
                    self.service, posters, self.tabs, tab, self.form, CREATE, queue.list, self.language, locale, i18n
                )
            with gr.Tab(i18n("training_page.tab"), id="train") as tab:
                self.named_tabs["training_page.tab"] = tab
                self.train_tab = TrainTab(
                    self.service, self.settings, self.tabs, tab, self.form, CREATE, self.language, locale, i18n
                )
            with gr.Tab(i18n("ui.tab_system"), id="system") as tab:
                self.named_tabs["ui.tab_system"] = tab
                SystemTab(self.service, self.settings, self.probe, self.tabs, tab, self.language, i18n, self.ended)

    def _lay_out_create(self, i18n: gr.I18n, locale: str, models: Sequence[ModelEntry]) -> None:
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320):
                self.form: Form = build_form(self.settings, models, self.first.name, locale, i18n)
                self.restore = restore_button(i18n)
            with gr.Column(scale=6, min_width=320, elem_id="i2v-result"):
                with gr.Column(elem_id="i2v-run"):
                    self.status = gr.HTML(panels.ready(locale), elem_id="i2v-status")
                    with gr.Row(elem_id="i2v-actions"):
                        self.generate = gr.Button(i18n("ui.generate"), variant="primary", elem_id="i2v-generate")
                        self.cancel = gr.Button(i18n("ui.cancel"), interactive=False, elem_id="i2v-cancel")
                        self.pause, self.retry, self.redecode, self.next = (
                            gr.Button(i18n(f"ui.{name}"), visible=False, elem_id=f"i2v-{name}")
                            for name in ("pause", "retry", "redecode", "show_next")
                        )
                        self.unhold = gr.Button(visible=False, elem_id="i2v-unhold")
                        self.question = gr.Textbox(visible=False)
                    self.told = gr.HTML("", elem_id="i2v-told")
                self.stage = gr.HTML(panels.empty_stage(locale), elem_id="i2v-stage")
                plan = PlanPanel(
                    gr.HTML(plan_card.planning(locale), elem_id="i2v-plan"),
                    gr.Button(visible=False, size="sm", elem_id="i2v-nearest"),
                    gr.State(None),
                )
                self.answers = Answers(self.service, self.settings, self.form, plan, self.first)
                self.scout = Scout(self.service, self.followers, self.settings, i18n)
                self.memory = gr.HTML(memory_panel((), None, locale), elem_id="i2v-memory")
                self.log = gr.HTML(panels.log_panel("", locale), elem_id="i2v-log")
                self.notify = gr.Checkbox(label=i18n("ui.notify"), container=False, elem_id="i2v-notify")
        connect_restore(self.restore, self.form, self.settings, self.language, self.told)

    def _connect(self) -> None:
        form = self.form
        autos = [form.fields[name] for name in AUTO_FIELDS]
        numbers = [form.fields[name] for name in NUMBERS]
        model = form.fields["model"]
        preset = form.fields["preset"]
        rendered = [self.language, self.header, model, *autos, *self.named_tabs.values()]
        following = [self.job_id, self.shown, self.language]
        looked = [*following, self.scout.kept]
        chosen = [self.language, preset]
        self.blocks.load(self._localized, chosen, rendered, js=f"(_, p) => [{LANGUAGE}, p]", **QUIET)
        restored = self.blocks.load(
            self._restored,
            [self.job_id, self.language, self.scout.kept, form.ticket],
            [*self._job_outputs, *form.sources, *form.inputs, form.ticket],
            js=f"(id, _, scouts) => [id, {LANGUAGE}, scouts, window.i2vKept()]",
            **QUIET,
        )
        restored.then(None, None, None, js="() => window.i2vKeepFromNow() ?? []", **QUIET)
        keep = f"(ticket, ...values) => window.i2vKeep({json.dumps(FIELDS)}, ticket, values) ?? []"
        kept = [form.ticket, *form.inputs]
        gr.on([one.change for one in kept], None, kept, None, js=keep, **QUIET)
        self.ended.change(self._localized, chosen, rendered, js=f"(_, p) => [{LANGUAGE}, p]", **QUIET)
        switched = self.language.input(
            self._localized, chosen, rendered, js="(l, p) => [window.i2vSetLanguage(l), p]", **QUIET
        )
        switched.then(self._look, looked, self._job_outputs, **QUIET)
        measured = connect_shape(form, self.settings, self._ticket)
        self.answers.connect(self.blocks, self.language, self.ended, measured, switched)
        connect_sentence(form, self.service, self.language, switched)
        shape = [preset, model, form.picture]
        # The numbers by themselves: drawn together with the rest they take twice as long.
        preset.input(self._autos, chosen, autos, **QUIET)
        switched_to = [form.kept_numbers, *shape, form.clip.file, form.shape.aspect, form.shape.quality, *numbers]
        late: dict[str, Any] = {**QUIET, "preprocess": False, "trigger_mode": "always_last"}
        suited = {"fn": self._numbers, "inputs": switched_to, "outputs": [form.kept_numbers, *numbers], **late}
        # Not `select`, which a choice by keys does not bring about.
        gr.on([model.input, preset.input], **suited)
        turned = connect_models(form, self.service, self.settings, self.language, self.ended, switched)
        turned.then(**suited)
        connect_loras(form, self.settings, self.language, self.ended, switched, turned)
        connect_adding(form, self.service, self.settings, self.language)
        connect_removing(form, self.service, self.settings, self.language)
        setting_at = {"js": SETTING_AT, **QUIET}
        gr.on([model.focus, preset.focus], None, [form.kept_numbers, model, preset], form.kept_numbers, **setting_at)
        pictured = {"fn": self._pictured, "inputs": [self.language, *shape, form.ticket], "preprocess": False}
        pictured["outputs"] = [self.told, form.picture, form.clip.file, *numbers[:2]]
        pictured["outputs"] += [form.fields["region"], form.fields["way"]]
        form.picture.input(**pictured, **QUIET)
        connect_examples(form, self.language, pictured | QUIET, self._takes_region)
        self.scout.connect(
            self.blocks, form, self.language, self._show_new, self._job_outputs, self.job_id, self.status
        )
        connect_cut(form, self.language, measured)
        connect_brush(form)
        connect_clip(form, self.language, self._numbers_for_clip)
        connect_last_picture(form, self.language, self.told, self._read, self._last_of)
        # What was said of the form stands no longer where that is changed.
        edits = [
            *(one.input for one in (*form.inputs, *form.shape.choices, self.language)),
            self.answers.panel.nearest.click,
        ]
        edits += [button.click for button in (*form.chips.values(), form.dice, form.reuse, form.clip.first_frame)]
        edits += [form.clip.file.upload, form.clip.file.clear, form.models.cards.click, form.model_note.click]
        gr.on(edits, None, None, [self.told, self.scout.told], js="() => ['', '']", **QUIET)
        connect_fast(form, self.settings, self.language, self.told)
        connect_seed(form, self.service, self.job_id, self.language, self.blocks)
        # Values arrive as sent: the service checks them all, and says what is wrong with a picture in plain words.
        self.generate.click(
            self._asked_first,
            [self.language, self.question, self.job_id, *form.sources, *form.inputs],
            [*self._job_outputs, self.question],
            preprocess=False,
            js=agreed("i2v-generate"),
            **QUIET,
        ).then(None, self.question, None, js=asks("i2v-generate"), **QUIET)
        self.cancel.click(self._cancel, following, self._job_outputs, **QUIET)
        self.pause.click(self._pause, following, self._job_outputs, **QUIET)
        self.unhold.click(self._unhold, following, self._job_outputs, **QUIET)
        self.next.click(self._next, following, self._job_outputs, **QUIET)
        self.retry.click(self._retry, following, self._job_outputs, **QUIET)
        decoding = [form.fields[name] for name in DECODED_BY]
        self.redecode.click(
            self._redecode, [*following, *decoding], self._job_outputs, **{**QUIET, "preprocess": False}
        )
        self.timer.tick(self._look, looked, self._job_outputs, **QUIET)
        self.blocks.load(None, None, self.notify, js="() => window.i2vNotifies()", **QUIET)
        self.notify.input(None, self.notify, self.notify, js="(wanted) => window.i2vNotify(wanted)", **QUIET)

    def _localized(self, locale: str, preset: str) -> list[Any]:
        """Everything rendered here, in the reader's language."""
        locale = known(locale)
        header = panels.header(self.probe.read(), self.settings.preset, locale)
        models = gr.update(choices=model_choices(list_models(self.settings), locale))
        tabs = [gr.update(label=Message(name).render(locale)) for name in self.named_tabs]
        return [locale, header, models, *self._autos(locale, preset), *tabs]

    def _restored(
        self, request: gr.Request | None, job_id: str, locale: str, kept: Any = None, form: Any = None
    ) -> list[Any]:
        """A page that opens: the job it was showing, if any, and the `form` that its browser kept, else the form as
        that job or a scout was asked for. `kept`: the scouts."""
        own = OwnJobs.of(self.service, request)
        scouts = Scouts.of(kept).ids
        job_id = self._to_show(own, job_id, scouts)
        updates = self._look(request, job_id, Shown(), locale, kept)
        if filled := KeptForm.of(form, own.who, self.tickets):
            upload = gr.skip() if filled.picture is None else str(filled.picture)
            of_clip = filled.values.get("task") == "v2v"
            last = gr.skip() if filled.last_picture is None else str(filled.last_picture)
            sources = [gr.skip(), upload, last] if of_clip else [upload, gr.skip(), last]
            return [*updates, *sources, *(filled.values.get(name, gr.skip()) for name in FIELDS), filled.ticket]
        ticket = self.tickets.give(own.who, None)
        for asked in (job_id, *scouts):
            with suppress(UserError):
                job = own.status(asked)
                return [*updates, *sources_of(job.folder, job.request), *form_values(job.request), ticket]
        return [*updates, *[gr.skip()] * (len(FIELDS) + 3), ticket]

    def _to_show(self, own: OwnJobs, job_id: str, besides: Sequence[str] = ()) -> str:
        """The job that the browser remembers; where that has ended, the owner's newest that has not, but for
        those `besides`. A tab that was closed before it heard of its new job finds it again so."""
        if self._is_live(own, job_id):
            return job_id
        jobs = self.service.jobs(own.who, LOOKED_AT)
        newest = [job for job in jobs if job.id not in besides and job.task != "train"]
        live = [job.id for job in newest if job.state not in FINAL_STATES]
        return live[-1] if live else job_id

    def _autos(self, locale: str, preset: str) -> list[Any]:
        """What auto means under this preset."""
        return auto_updates(under_preset(self.settings, preset), known(locale))

    def _ticket(self, request: gr.Request | None, picture: Path | None, last: Path | None = None) -> str:
        """What the browser keeps for the uploads of whoever asks."""
        return self.tickets.give(owner_of(request), picture, last)

    def _last_of(self, request: gr.Request | None, ticket: Any) -> Path | None:
        """The last picture that a ticket is for."""
        return self.tickets.last_picture(ticket, owner_of(request))

    def _pictured(
        self, request: gr.Request | None, locale: str, preset: str, model: str, picture: Any, ticket: Any = None
    ) -> list[Any]:
        """The video's size after the picture's shape, and the picture as the browser can show it, with nothing painted
        over it; a video goes. One that cannot be read is told of at once, and the one before it, that of `ticket`,
        comes back."""
        try:
            path, loaded = self._read(picture)
            width, height, *_ = self._fitting(preset, model, Dropped(loaded.size if loaded else None))
        except UserError as error:
            before = self.tickets.picture(ticket, owner_of(request))
            return [panels.problem(error.message, known(locale)), str(before) if before else None, *[gr.skip()] * 5]
        copy = for_browsers(path, loaded) if path and loaded else None
        return ["", str(copy) if copy else gr.skip(), None if path else gr.skip(), width, height, *NOTHING_PAINTED]

    def _numbers(
        self, kept: Any, preset: str, model: str, picture: Any, clip: Any, aspect: str, quality: str, *numbers: Any
    ) -> list[Any]:
        """After another model or preset was chosen: what was kept, and the numbers as they were for these, else what
        suits them and the photograph or the video. The other arguments are what stands in the form."""
        dropped = Dropped()
        with suppress(UserError):
            dropped = self._dropped(picture, clip)
        left, key = Chosen(aspect, quality, numbers), key_of(model, preset)
        moved = KeptNumbers.of(kept).moved(key, left)
        spec, usual = usual_shape(model, preset, self.settings)
        suited = self._fitting(preset, model, dropped)
        return [moved.kept(), *numbers_for(moved, key, left, suited, spec, usual, dropped.size)]

    def _read(self, picture: Any) -> tuple[Path | None, Image.Image | None]:
        """The photograph's file and its pixels. Raises UserError for one that cannot be read."""
        path = uploaded_path(picture)
        limit = self.settings.max_picture_megapixels
        return path, load_picture(path, max_megapixels=limit) if path else None

    def _takes_region(self, model: str) -> bool:
        return SPECS[find_model(model, self.settings).family].takes_region

    def _dropped(self, picture: Any, clip: Any) -> Dropped:
        """What there is, as far as it shapes the numbers. Raises UserError where it cannot be read."""
        if video := uploaded_path(clip, "video"):
            facts = clip_facts(video, max_megapixels=self.settings.max_picture_megapixels)
            return Dropped(facts=facts)
        _, loaded = self._read(picture)
        return Dropped(loaded.size if loaded else None)

    def _numbers_for_clip(self, preset: str, model: str, clip: Any, fps: Any) -> list[float]:
        """Width, height and frames for a video that was dropped: its shape, and no longer than it is. Raises UserError
        for one that cannot be read."""
        dropped = self._dropped(None, clip)
        width, height, frames, *_ = self._fitting(preset, model, dropped, fps)
        return [width, height, frames]

    def _fitting(self, preset: str, model: str, dropped: Dropped, fps: Any = None) -> list[float]:
        """The numbers that suit the model, the preset and what was dropped; its length at the `fps` of the form, else
        at the model's."""
        spec = SPECS[find_model(model, self.settings).family]
        numbers = default_numbers(spec, under_preset(self.settings, preset), dropped.size)
        if dropped.facts is not None:
            rate = fps if isinstance(fps, int | float) and fps > 0 else numbers["fps"]
            numbers["frames"] = min(numbers["frames"], frames_within(spec, dropped.facts, rate))
        return list(numbers.values())
