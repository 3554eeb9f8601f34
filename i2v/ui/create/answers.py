"""What follows from the form as it is now: the plan card, the model's note, hints, the shape in words, the length.

All in one answer, which is asked for before anything else that a change brings about: each request costs the browser
tens of milliseconds.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.events import Dependency

from i2v.families.spec import FamilySpec
from i2v.jobs.asked.prepare import FINISH_KEYS, Resolved, default_size
from i2v.jobs.process.dry_child import Superseded
from i2v.messages import UserError, message
from i2v.models.catalogue import find_model
from i2v.settings.settings import Settings
from i2v.ui.api import unexpected
from i2v.ui.create import plan_card
from i2v.ui.create.brush import shown_for
from i2v.ui.create.choices import CHOICES, choice_updates, seen_now
from i2v.ui.create.clip import SHOWN, note, shown_places, updates
from i2v.ui.create.fast import fast_shown
from i2v.ui.create.first_model import FirstModel
from i2v.ui.create.form import AUTO_FIELDS, FIELDS, Form, model_message, request_values
from i2v.ui.create.given import spec_named
from i2v.ui.create.hints import hints
from i2v.ui.create.model_cards import first_model_note
from i2v.ui.create.schedule import SCHEDULE
from i2v.ui.create.shape import length_choices, length_note, named_shape, usual_shape
from i2v.ui.create.task import Dropped, places, refusal_of, task_of
from i2v.ui.shown import panels
from i2v.ui.tabs import LANGUAGE, QUIET
from i2v.ui.texts import known

if TYPE_CHECKING:
    from i2v.jobs.service import JobService

ANSWERED_TO = (
    *("model", "width", "height", "frames", "fps", "steps", "guidance", "preset", "strength"),
    *("lora", "true_guidance", *SCHEDULE),
    *FINISH_KEYS,
    *AUTO_FIELDS,
)
NEAREST = ("width", "height", "frames")
MOST_PAGES = 1000  # whose newest question is kept


@dataclass(frozen=True)
class PlanPanel:
    """The plan card; the button that takes the nearest settings that fit, and these settings as NEAREST."""

    card: gr.HTML
    nearest: gr.Button
    nearest_job: gr.State

    @property
    def outputs(self) -> list[Any]:
        """In the order in which the answers come."""
        return [self.card, self.nearest, self.nearest_job]


class Newest:
    """What each open page asked last, so that an answer that comes after another question is not shown; and whether
    its plan fits, once that is known. Any thread may call. Of very many pages only those that asked last are known."""

    def __init__(self) -> None:
        self._asked: dict[str, tuple[tuple[Any, ...], bool | None]] = {}
        self._changing = threading.Lock()

    def ask(self, page: str | None, question: tuple[Any, ...]) -> None:
        """`page` asks `question` now. None is nobody's page."""
        if page is None:
            return
        with self._changing:
            self._asked.pop(page, None)
            self._asked[page] = question, None
            if len(self._asked) > MOST_PAGES:
                del self._asked[next(iter(self._asked))]

    def is_late(self, page: str | None, question: tuple[Any, ...]) -> bool:
        """Whether `page` has asked something else since it asked `question`."""
        with self._changing:
            return page in self._asked and self._asked[page][0] != question

    def answered(self, page: str | None, question: tuple[Any, ...], fits: bool) -> None:
        """The plan for `question` fits, or does not; nothing changes where `page` has asked something else since."""
        with self._changing:
            if page in self._asked and self._asked[page][0] == question:
                self._asked[page] = question, fits

    def fits(self, page: str | None, question: tuple[Any, ...]) -> bool | None:
        """Whether the plan for `question` fits; None where `page` has asked another, or has no answer yet."""
        with self._changing:
            asked, fits = self._asked.get(page, (None, None))
            return fits if asked == question else None


class Answers:
    """Callbacks of one page layout. Of a visitor only the newest question about a plan is held."""

    def __init__(
        self, service: JobService, settings: Settings, form: Form, panel: PlanPanel, first: FirstModel
    ) -> None:
        self.service = service
        self.settings = settings
        self.form = form
        self.first = first
        self.panel = panel
        self.newest = Newest()

    def connect(
        self, page: gr.Blocks, language: gr.Radio, ended: gr.Textbox, measured: Dependency, translated: Dependency
    ) -> None:
        """Let the answers follow the form: at once from what is known, then exactly, which takes seconds for a new
        size; of many changes in a row the last one counts. They also follow the events after which the photograph's
        size is known, and after which another language is. `ended` changes when a job has ended: its model may be on
        this computer now, and other memory is free."""
        form, shape = self.form, self.form.shape
        asked = [language, *form.inputs, shape.aspect, shape.quality, shape.picture_size]
        asked += [form.clip.facts, form.clip.shown, form.choices_shown]
        answered = [*self.panel.outputs, form.model_note, form.hints]
        answered += [shape.aspect, shape.quality, shape.seconds, shape.told]
        answered += [form.fast]
        answered += [form.choices_shown, *(form.fields[name] for name in CHOICES)]
        answered += [form.fields["task"], form.clip.note, *shown_places(form), form.brush.rows]
        late: dict[str, Any] = {**QUIET, "preprocess": False, "trigger_mode": "always_last"}
        late["js"] = f"(_, ...form) => [{LANGUAGE}, ...form]"
        changes = [page.load, ended.change, *(form.fields[name].change for name in ANSWERED_TO)]
        follow = {"fn": self.at_once, "inputs": asked, "outputs": answered, **late}
        # Sent at once, whatever is being answered still: the service drops what a newer question has overtaken.
        anew = {**late, "trigger_mode": "multiple"}
        gr.on(changes, **follow).then(self.exactly, [language, *form.inputs], self.panel.outputs, **anew)
        noted = {"fn": self.hints_only, "inputs": [language, *form.inputs], "outputs": form.hints, **late}
        gr.on([form.fields[name].change for name in ("prompt", "negative")], **noted)
        measured.then(**follow)
        translated.then(**follow)
        self.panel.nearest.click(
            lambda job: job or [gr.skip()] * 3,
            self.panel.nearest_job,
            [form.fields[name] for name in NEAREST],
            **QUIET,
        )

    def at_once(self, request: gr.Request | None, locale: str, *asked: Any) -> list[Any]:
        """All answers, the plan by what is known. `asked`: the values of FIELDS, aspect, quality, the size
        of what was dropped, the facts of a video, the places and the choices that are shown."""
        locale, raw = known(locale), asked[: len(FIELDS)]
        aspect, quality, size, facts, before, choices_before = asked[len(FIELDS) :]
        form, dropped = dict(zip(FIELDS, raw, strict=True)), Dropped(size, facts)
        self.newest.ask(_page(request), _question(locale, raw))
        resolved = self._resolved(raw, dropped)
        shape, seconds, sources = [aspect, quality], gr.skip(), [gr.skip()] * (3 + len(SHOWN))
        choices, fast = [gr.skip()] * (1 + len(CHOICES)), gr.skip()
        with suppress(UserError):
            spec, usual = self._usual_shape(form, resolved)
            shape = list(named_shape(spec, usual, (form["width"], form["height"]), (aspect, quality), size))
            sources = self._sources(spec, dropped, form, locale, before)
            choices_now = seen_now(spec, form, self.settings, locale)
            choices = choice_updates(choices_now, choices_before)
            fast = fast_shown(spec, form, locale)
            seconds = length_choices(spec, form["frames"], form["fps"], locale)
        plan, fits = self._plan(request, locale, raw, resolved, exactly=False)
        return [
            *plan,
            self._model_note(form["model"], locale, resolved),
            self._hints(resolved, locale, fits=fits),
            # Not the value that stands there: by the time this arrives another may have been chosen.
            *(gr.skip() if new == old else new for new, old in zip(shape, (aspect, quality), strict=True)),
            seconds,
            length_note(locale, *(form[name] for name in ("width", "height", "frames", "fps"))),
            fast,
            *choices,
            *sources,
        ]

    def _sources(
        self, spec: FamilySpec, dropped: Dropped, form: Mapping[str, Any], locale: str, before: Any
    ) -> list[Any]:
        """What follows from what was dropped: the task, where it is not the form's, what is told, and which places are
        seen, where these are not those `before`."""
        now, seen = task_of(spec, picture=dropped.picture, clip=dropped.clip), places(spec, dropped)
        return [
            gr.skip() if now == form["task"] else now,
            note(spec, dropped, locale, form["frames"], form["fps"]),
            *updates(seen, locale, before),
            shown_for(spec.takes_region),
        ]

    def _hints(self, resolved: Resolved | Exception, locale: str, *, fits: bool) -> str:
        """Nothing for values that are no request yet: the plan card says why."""
        return hints(resolved, locale, fits=fits) if isinstance(resolved, Resolved) else ""

    def _small_seconds(self) -> float | None:
        """What a usual job of the model for processors takes now; None where that is not known."""
        with suppress(UserError):
            planned, _ = self.service.plan({"model": plan_card.SMALL_MODEL})
            return planned and planned.prediction.seconds
        return None

    def _resolved(self, raw: Sequence[Any], dropped: Dropped | None = None) -> Resolved | Exception:
        """What the form asks for, or why it asks for nothing that can be. Everything below is told of it. The task is
        that of what was `dropped`; where that is not known here, it stands in the form."""
        try:
            form = dict(zip(FIELDS, raw, strict=True))
            spec, task = spec_named(form["model"], self.settings), form["task"]
            if spec and dropped:
                task = task_of(spec, picture=dropped.picture, clip=dropped.clip)
            if spec and task and (refusal := refusal_of(spec, task, self.settings)):
                return refusal
            return self.service.resolve(request_values(raw, spec, task))
        except Exception as error:
            return error

    def _usual_shape(
        self, form: Mapping[str, Any], resolved: Resolved | Exception
    ) -> tuple[FamilySpec, tuple[int, int]]:
        """As `usual_shape`, which is needed where the form is no request yet."""
        if isinstance(resolved, Resolved):
            return resolved.spec, default_size(resolved.spec, resolved.settings)
        return usual_shape(form["model"], form["preset"], self.settings)

    def _model_note(self, name: str, locale: str, resolved: Resolved | Exception) -> str:
        """What a person should know before choosing this model; of the one that the page began with, why it did."""
        if name == self.first.name and self.first.told is not None:
            return first_model_note(self.first, locale)
        try:
            entry = resolved.entry if isinstance(resolved, Resolved) else find_model(name, self.settings)
        except UserError as error:
            return panels.note(error.message.render(locale))
        told = model_message(entry)
        return panels.note(told.render(locale), calm=entry.present) if told else ""

    def exactly(self, request: gr.Request | None, locale: str, *raw: Any) -> list[Any]:
        """The plan by dry runs of this very job."""
        return self._plan(request, known(locale), raw, self._resolved(raw), exactly=True)[0]

    def hints_only(self, request: gr.Request | None, locale: str, *raw: Any) -> str:
        """The notes by themselves, for what changes no plan: the prompts. Whether the plan fits is known from the
        last answer; without that it is planned, not for the page, so that a plan being worked out for it goes on."""
        locale, resolved = known(locale), self._resolved(raw)
        fits = self.newest.fits(_page(request), _question(locale, raw))
        if fits is None:
            _, fits = self._answer(None, locale, resolved, exactly=False)
        return self._hints(resolved, locale, fits=fits)

    def _plan(
        self,
        request: gr.Request | None,
        locale: str,
        raw: Sequence[Any],
        resolved: Resolved | Exception,
        *,
        exactly: bool,
    ) -> tuple[list[Any], bool]:
        """What the panel shows, and whether that is a plan that fits: nothing new where the page has asked something
        else meanwhile."""
        try:
            answer, fits = self._answer(_page(request), locale, resolved, exactly=exactly)
        except Superseded:
            return [gr.skip()] * len(self.panel.outputs), False
        page, question = _page(request), _question(locale, raw)
        self.newest.answered(page, question, fits)
        late = self.newest.is_late(page, question)
        return [gr.skip()] * len(self.panel.outputs) if late else answer, fits

    def _answer(
        self, page: str | None, locale: str, resolved: Resolved | Exception, *, exactly: bool
    ) -> tuple[list[Any], bool]:
        hidden = [gr.update(visible=False), None]
        try:
            if isinstance(resolved, Exception):
                raise resolved
            planned, gains = self.service.plan_of(resolved, exactly=exactly, page=page)
        except Superseded:
            raise
        except UserError as error:
            return [plan_card.no_plan(error.message, locale), *hidden], False
        except Exception as error:
            return [plan_card.no_plan(unexpected(error, self.settings).message, locale), *hidden], False
        if planned is None:
            return [plan_card.planning(locale), *hidden], False
        small_seconds = self._small_seconds() if plan_card.wants_card(planned) else None
        card = plan_card.plan_card(planned, gains, locale, small_seconds)
        if not planned.nearest:
            return [card, *hidden], planned.prediction.verdict == "fits"
        job = planned.nearest[0]
        label = message("ui.plan_take_nearest", width=job.width, height=job.height, frames=job.num_frames)
        button = gr.update(visible=True, value=label.render(locale))
        return [card, button, [job.width, job.height, job.num_frames]], False


def _page(request: gr.Request | None) -> str | None:
    return None if request is None else request.session_hash


def _question(locale: str, raw: Sequence[Any]) -> tuple[Any, ...]:
    """All that a plan's card depends on. `raw`: the values of FIELDS."""
    form = dict(zip(FIELDS, raw, strict=True))
    return locale, *(form[name] for name in ANSWERED_TO)
