"""The Train tab: clips that a model is to learn a motion from, and the trainings with their losses as they fall."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from i2v.events import FINAL_STATES
from i2v.families import SPECS
from i2v.jobs.job.states import AT_WORK, LIVE, NotAllowed
from i2v.messages import UserError, message
from i2v.models.catalogue import list_models
from i2v.settings.settings import Settings
from i2v.training.asked import size_defaults
from i2v.ui.api import unexpected
from i2v.ui.create.choices import loras_of
from i2v.ui.create.form import Form
from i2v.ui.gate.access import LOCAL
from i2v.ui.gate.own import OwnJobs
from i2v.ui.queue.rows import in_order
from i2v.ui.shown import panels
from i2v.ui.tabs import CHOOSE, LANGUAGE, QUIET, while_selected
from i2v.ui.texts import known
from i2v.ui.train.fields import SIZES, build_train_form, model_choices, trainable, training_values
from i2v.ui.train.films import captions_in, films_of, proposed_captions, train
from i2v.ui.train.rows import Training, clips_panel, training_list

if TYPE_CHECKING:
    from i2v.jobs.service import JobService

TICK_SECONDS = 2.0
LAST_ENDED = 5
_TO_TRAININGS = """() => {
    if (innerWidth < 720 && !document.querySelector("#i2v-train-told .i2v-error"))
        document.querySelector("#i2v-trainings").scrollIntoView();
    return [];
}"""
"""Where the list stands below the form, who has pressed Train is brought to it."""
_LOOKED_AT = 200  # newest jobs that have ended, among which the last trainings are found


@dataclass(frozen=True)
class TrainShown:
    """What the last look sent, so that the next sends only what is new."""

    list: str = ""
    clips: str = ""


class TrainTab:
    """Components and callbacks of the tab, laid out where it is made. `form` and `create` are what it gives a LoRA to
    and then turns to: the form for videos, and the id of its tab among `tabs`."""

    def __init__(
        self,
        service: JobService,
        settings: Settings,
        tabs: gr.Tabs,
        tab: gr.Tab,
        form: Form,
        create: str,
        language: gr.Radio,
        locale: str,
        i18n: gr.I18n,
    ) -> None:
        self.service, self.settings, self.create = service, settings, create
        self.models = trainable(list_models(settings))
        self.shown = gr.State(TrainShown())
        self.wishes = gr.State({})  # what trainings were asked to do after their step, by id: "cancel" or "pause"
        self.timer = gr.Timer(TICK_SECONDS, active=False)
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320):
                gr.Markdown(i18n("training_page.about"))
                self.form = build_train_form(self.models, settings.model, locale, i18n)
            with gr.Column(scale=6, min_width=320):
                self.done = gr.HTML("", elem_id="i2v-trainings-told")
                self.list = gr.HTML(training_list((), locale), js_on_load=CHOOSE, elem_id="i2v-trainings")
                self.clips = gr.HTML("", elem_id="i2v-training-clips")
        self._connect(tabs, tab, form, language)

    def _connect(self, tabs: gr.Tabs, tab: gr.Tab, form: Form, language: gr.Radio) -> None:
        own, state = self.form, [self.wishes, language]
        drawn = [self.shown, self.list, self.clips]
        spoken = f"(shown, wishes) => [shown, wishes, {LANGUAGE}]"
        tab.select(self.look, [self.shown, *state], drawn, js=spoken, **QUIET)
        fields = [own.fields["clips"], own.fields["model"], own.captions]
        tab.select(self.opened, language, fields, js=f"() => [{LANGUAGE}]", **QUIET)
        language.input(self.opened, language, fields, **QUIET)
        language.input(None, None, [own.told, self.done], js="() => ['', '']", **QUIET)
        while_selected(tabs, tab, self.timer)
        self.timer.tick(self.look, [self.shown, *state], drawn, **QUIET)
        self.list.click(self.act, state, [self.wishes, self.done, *drawn], **QUIET)
        filling = [self.done, tabs, self.timer, form.fields["model"], form.fields["lora"]]
        self.list.click(self.use, language, filling, **QUIET)
        sizes = [own.fields[name] for name in SIZES]
        own.fields["model"].change(self.sizes, own.fields["model"], sizes, **QUIET)
        # Values arrive as sent: what is wrong with them is said in plain words.
        raw: dict[str, Any] = {**QUIET, "preprocess": False}
        gr.on(
            [own.films.upload, own.films.clear, own.films.delete], self.captions,
            [own.films, own.captions, language], [own.captions, own.told], **raw,
        )  # fmt: skip
        own.train.click(
            self.begin, [own.films, own.captions, *own.inputs, *state], [own.told, own.films, own.captions, *drawn],
            **{**raw, "show_progress": "minimal"},
        ).then(None, None, None, js=_TO_TRAININGS, **QUIET)  # fmt: skip

    # --- the form ---

    def opened(self, request: gr.Request | None, locale: str) -> list[Any]:
        """What depends on who looks: a folder of this machine is for whoever sits at it."""
        local = OwnJobs.of(self.service, request).who == LOCAL
        headers = [_say(name, known(locale)) for name in ("clip", "caption")]
        choices = model_choices(self.models, known(locale))
        return [gr.update(visible=local or "hidden"), gr.update(choices=choices), gr.update(headers=headers)]

    def sizes(self, model: str) -> list[Any]:
        """The model's own numbers, where the fields are empty."""
        family = next((one.family for one in self.models if one.name == model), None)
        if family is None:
            return [gr.skip()] * len(SIZES)
        return [gr.update(placeholder=str(value)) for value in size_defaults(SPECS[family]).values()]

    def captions(self, files: Any, table: Any, locale: str) -> list[Any]:
        """The table for the films that were uploaded; what was typed into it stays."""
        try:
            rows = proposed_captions(films_of(files), table)
        except UserError as error:
            return [gr.skip(), panels.problem(error.message, known(locale))]
        return [gr.update(value=rows, visible=bool(rows)), ""]

    def begin(self, request: gr.Request | None, files: Any, table: Any, *rest: Any) -> list[Any]:
        """Begin a training, or say why there is none; then the form stays as it is."""
        *raw, wishes, locale = rest
        own, locale = OwnJobs.of(self.service, request), known(locale)
        try:
            train(own, self.settings, training_values(raw), films_of(files), captions_in(table))
            told, form = "", [None, gr.update(value=[], visible=False)]
        except UserError as error:
            told, form = panels.problem(error.message, locale), [gr.skip()] * 2
        except Exception as error:
            told, form = panels.problem(unexpected(error, self.settings).message, locale), [gr.skip()] * 2
        return [told, *form, *self.look(request, TrainShown(), wishes, locale)]

    # --- the list ---

    def look(self, request: gr.Request | None, shown: TrainShown, wishes: Mapping[str, str], locale: str) -> list[Any]:
        """The trainings as they stand; what the browser has already is skipped."""
        trainings, locale = self._trainings(OwnJobs.of(self.service, request), wishes), known(locale)
        latest = TrainShown(training_list(trainings, locale), clips_panel(trainings, locale))
        return [
            gr.skip() if latest == shown else latest,
            gr.skip() if latest.list == shown.list else latest.list,
            gr.skip() if latest.clips == shown.clips else latest.clips,
        ]

    def _trainings(self, own: OwnJobs, wishes: Mapping[str, str]) -> Sequence[Training]:
        live = [job for job in own.jobs(states=LIVE) if job.task == "train"]
        ended = [job for job in own.jobs(states=FINAL_STATES, limit=_LOOKED_AT) if job.task == "train"]
        shown = []
        for job in in_order({job.id: job for job in (*live, *ended[-LAST_ENDED:])}.values()):
            with suppress(UserError):  # deleted meanwhile
                wish = wishes.get(job.id, "") if job.state in AT_WORK else ""
                shown.append(Training(job, own.training(job.id), wish))
        return shown

    def act(
        self, request: gr.Request | None, wishes: Mapping[str, str], locale: str, chosen: gr.EventData
    ) -> list[Any]:
        """What a button of the list says, done."""
        own = OwnJobs.of(self.service, request)
        act, job_id = getattr(chosen, "act", None), getattr(chosen, "id", None)
        kept, told = dict(wishes), ""
        if act in _ACTS and isinstance(job_id, str):
            kept.pop(job_id, None)
            if act in ("cancel", "pause"):
                kept[job_id] = act
            try:
                _ACTS[act](own, job_id)
            except UserError as error:
                told = panels.problem(error.message, known(locale))
            except NotAllowed:  # it began or ended in the meantime: the list shows it as it is now
                pass
        return [kept, told, *self.look(request, TrainShown(), kept, locale)]

    def use(self, request: gr.Request | None, locale: str, chosen: gr.EventData) -> list[Any]:
        """The LoRA of a finished training in the form for videos, and that form shown."""
        if getattr(chosen, "act", None) != "use":
            return [gr.skip()] * 5
        own = OwnJobs.of(self.service, request)
        try:
            job_id = str(getattr(chosen, "id", ""))
            job, seen = own.status(job_id), own.training(job_id)
            offered = next(
                (loras_of(SPECS[model.family], self.settings) for model in self.models
                 if model.name == job.request.model), [],
            )  # fmt: skip
            if seen.name not in offered:
                raise UserError("training_page.lora_gone", name=seen.name)
        except UserError as error:
            return [panels.problem(error.message, known(locale)), *[gr.skip()] * 4]
        lora = gr.update(choices=offered, value=[seen.name], visible=True)
        return ["", gr.Tabs(selected=self.create), gr.Timer(active=False), job.request.model, lora]


_ACTS: Mapping[str, Callable[[OwnJobs, str], Any]] = {
    "pause": lambda own, job_id: own.pause(job_id),
    "resume": lambda own, job_id: own.resume(job_id),
    "cancel": lambda own, job_id: own.cancel(job_id),
    "retry": lambda own, job_id: own.retry(job_id),
}


def _say(name: str, locale: str) -> str:
    return message(f"training_page.{name}").render(locale)
