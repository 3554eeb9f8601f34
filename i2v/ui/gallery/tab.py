"""The Gallery tab: every finished video, found again, opened, used again, compared, written otherwise, deleted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from i2v.jobs.job.predicted import kept_prediction
from i2v.jobs.job.record import JobStatus
from i2v.messages import UserError
from i2v.request import AUTO
from i2v.ui.create.finish_fields import asked_values
from i2v.ui.create.fold import fold
from i2v.ui.create.form import FIELDS, Form, form_values
from i2v.ui.create.restore import same_again
from i2v.ui.gallery.cards import (
    NEWEST,
    ORDERS,
    PAGE,
    STEADINESS,
    Wanted,
    choices,
    grid,
    matching,
    neighbours,
    no_cards,
    size_of,
)
from i2v.ui.gallery.finish import FinishPanel
from i2v.ui.gallery.opened import about, exported, opened, side_by_side
from i2v.ui.gate.own import OwnJobs
from i2v.ui.shown import panels
from i2v.ui.shown.posters import Posters
from i2v.ui.shown.sources import sources_of
from i2v.ui.shown.view import JobView, advance
from i2v.ui.tabs import CHOOSE, HOVER, LANGUAGE, QUIET, while_selected
from i2v.ui.texts import known, text
from i2v.video.look import LIMITS, LOOK_STEP, WARMTH_GAIN, Look
from i2v.video.reencode import FORMATS, QUALITIES
from i2v.video.steadiness import Steadiness
from i2v.video.steadiness_files import kept_steadiness, kept_summary

if TYPE_CHECKING:
    from i2v.jobs.service import JobService

TICK_SECONDS = 2.0
_TOGETHER = Path(__file__).with_name("side_by_side.js").read_text(encoding="utf-8")
_AS_MADE = list(asdict(Look()).values())
_SHOW_LOOK = Path(__file__).with_name("look.js").read_text(encoding="utf-8").replace("WARMTH_GAIN", str(WARMTH_GAIN))
# What an answer brings may be there a few frames after it. Another video begins without another's colours.
_TO = """() => {
  let frames = 30;
  const go = () => {
    const there = document.querySelector("WANTED");
    if (there) {
      there.focus({ preventScroll: true });
      there.scrollIntoView({ block: "BLOCK" });
    } else if (frames--) requestAnimationFrame(go);
  };
  requestAnimationFrame(go);
  return RETURNED;
}"""
_TO_OPENED = _TO.replace("WANTED", "#i2v-opened").replace("BLOCK", "nearest").replace("RETURNED", str(_AS_MADE))
_TO_HINT = _TO.replace("WANTED", ".i2v-gallery-hint").replace("BLOCK", "start").replace("RETURNED", "[]")
_STEADINESS = (
    ("ui.gallery_any", AUTO),
    *((f"ui.gallery_finds_{name}", name) for name in STEADINESS),
)
_ORDERS = tuple((f"ui.gallery_order_{name}", name) for name in ORDERS)
MORE_SECONDS = (2, 4, 8, 15, 30)
"""By which a video may be extended with one click."""
_BUTTONS = ("use", "continue", "redecode", "compare", "delete")


@dataclass(frozen=True)
class Browsing:
    """What a visitor has asked for, beside the filters. `first`: whom the next card is compared with. `deleted`: whom
    "undo" brings back."""

    pages: int = 1
    opened: str = ""
    first: str = ""
    deleted: str = ""


@dataclass(frozen=True)
class Drawn:
    """What the last look sent. `newest`: the ids of the first page without any filter, by which the next look sees
    that something has come or gone. `pending`: posters are being made.

    Only looks write it, and only actions write `Browsing`: where both happen at once neither undoes the other, and the
    next look puts right what came late."""

    asked: Browsing | None = None
    wanted: Wanted | None = None
    locale: str = ""
    filters: tuple[Any, ...] = ()
    newest: tuple[str, ...] = ()
    pending: bool = False


class GalleryTab:
    """Components and callbacks of the tab, laid out where it is made. `form` and `create` are what it fills and then
    turns to: the form, and the id of its tab among `tabs`. `queue`: the list whose finished rows open here."""

    def __init__(
        self,
        service: JobService,
        posters: Posters,
        tabs: gr.Tabs,
        tab: gr.Tab,
        form: Form,
        create: str,
        queue: gr.HTML,
        language: gr.Radio,
        locale: str,
        i18n: gr.I18n,
    ) -> None:
        self.service, self.posters, self.create = service, posters, create
        self.asked, self.drawn = gr.State(Browsing()), gr.State(Drawn())
        self.timer = gr.Timer(TICK_SECONDS, active=False)
        self.told = gr.HTML("", elem_id="i2v-gallery-told")
        self.undo = gr.Button(i18n("ui.act_undo"), visible=False, size="sm", elem_id="i2v-gallery-undo")
        self._lay_out_opened(i18n)
        with gr.Row(elem_id="i2v-gallery-filters"):
            self.search = gr.Textbox(
                label=i18n("ui.gallery_search"), placeholder=i18n("ui.gallery_search_placeholder"), max_lines=1,
                scale=3, min_width=200, elem_id="i2v-gallery-search",
            )  # fmt: skip
            self.model, self.size = (
                gr.Dropdown(choices((), locale), value=AUTO, label=i18n(label), scale=1, min_width=130, elem_id=elem_id)
                for label, elem_id in (("ui.model", "i2v-gallery-model"), ("ui.gallery_size", "i2v-gallery-size"))
            )
            self.steadiness, self.order = (
                gr.Dropdown(
                    [(i18n(word), value) for word, value in offered], value=offered[0][1], label=i18n(label), scale=1,
                    min_width=150, elem_id=elem_id,
                )
                for label, elem_id, offered in (
                    ("ui.gallery_steadiness", "i2v-gallery-steadiness", _STEADINESS),
                    ("ui.gallery_order", "i2v-gallery-order", _ORDERS),
                )
            )  # fmt: skip
        self.grid = gr.HTML("", js_on_load=CHOOSE + HOVER, elem_id="i2v-gallery-grid")
        self.more = gr.Button(i18n("ui.gallery_more"), visible=False, size="sm", elem_id="i2v-gallery-more")
        self._connect(tabs, tab, form, queue, language)

    def _lay_out_opened(self, i18n: gr.I18n) -> None:
        with gr.Row(visible=False, equal_height=False, elem_id="i2v-gallery-opened") as self.panel:
            with gr.Column(scale=3, min_width=300):
                self.detail = gr.HTML("", js_on_load=CHOOSE + _TOGETHER, elem_id="i2v-gallery-detail")
            with gr.Column(scale=2, min_width=300, elem_id="i2v-gallery-beside"):
                with gr.Row(elem_id="i2v-gallery-actions"):
                    self.buttons = {
                        name: gr.Button(
                            i18n(f"ui.act_{name}"), size="sm", min_width=100, elem_id=f"i2v-gallery-{name}",
                            variant="primary" if name == "use" else "secondary",
                        )
                        for name in _BUTTONS
                    }  # fmt: skip
                with gr.Row(elem_id="i2v-gallery-extend"):
                    self.more_seconds = gr.Dropdown(
                        [(str(one), one) for one in MORE_SECONDS], value=MORE_SECONDS[1],
                        label=i18n("ui.extend_by"), min_width=110,
                    )  # fmt: skip
                    self.extend = gr.Button(
                        i18n("ui.act_extend"), size="sm", min_width=140, elem_id="i2v-gallery-extend-now"
                    )
                with fold(i18n("ui.export"), "i2v-gallery-export"):
                    self._lay_out_export(i18n)
                self.finish = FinishPanel(self.service, i18n)
                self.link = gr.HTML("", elem_id="i2v-gallery-link")
                self.run = gr.HTML("", elem_id="i2v-gallery-run")

    def _lay_out_export(self, i18n: gr.I18n) -> None:
        with gr.Row():
            self.format = gr.Dropdown(list(FORMATS), value="gif", label=i18n("ui.export_format"), min_width=90)
            self.fps = gr.Number(8, label=i18n("ui.fps"), minimum=1, precision=0, step=1, min_width=80)
            self.quality = gr.Dropdown(
                [(i18n(f"ui.quality_{name}"), name) for name in QUALITIES], value="good",
                label=i18n("ui.export_quality"), min_width=110,
            )  # fmt: skip
        with gr.Row(elem_id="i2v-gallery-look"):
            self.look_values = [
                gr.Slider(
                    *LIMITS[name], value=made, step=LOOK_STEP, label=i18n(f"ui.{name}"), min_width=160,
                    elem_id=f"i2v-gallery-{name}", buttons=[],
                )
                for name, made in asdict(Look()).items()
            ]  # fmt: skip
        with gr.Row():
            self.as_made = gr.Button(i18n("ui.act_look_reset"), size="sm", elem_id="i2v-gallery-as-made")
            self.export = gr.Button(i18n("ui.act_export"), size="sm", variant="primary", elem_id="i2v-gallery-write")

    def _connect(self, tabs: gr.Tabs, tab: gr.Tab, form: Form, queue: gr.HTML, language: gr.Radio) -> None:
        filters = [self.search, self.model, self.size, self.steadiness, self.order]
        state = [self.asked, language, *filters]
        acting = [self.asked, self.grid, self.more, self.told, self.undo]
        opening = [*acting, self.panel, self.detail, self.run, self.fps, self.link]
        looking = [self.drawn, self.grid, self.more, self.model, self.size]
        # Values arrive as sent: a filter may name what is no longer offered, and then finds nothing.
        quiet: dict[str, Any] = {**QUIET, "preprocess": False}
        spoken = f"(drawn, asked, _, ...filters) => [drawn, asked, {LANGUAGE}, ...filters]"
        tab.select(self.look, [self.drawn, *state], looking, js=spoken, **quiet)
        self.timer.tick(self.look, [self.drawn, *state], looking, **quiet)
        while_selected(tabs, tab, self.timer)
        late: dict[str, Any] = {**quiet, "trigger_mode": "always_last"}
        for field in filters:
            field.input(self.filter, state, acting, **late)
        self.more.click(self.show_more, state, acting, **quiet)
        ways = ((self.grid, self.choose), (self.detail, self.choose), (queue, self.from_queue))
        for pressed, choose in ways:
            opened = pressed.click(choose, state, opening, **quiet)
            opened.then(None, None, self.look_values, js=_TO_OPENED, **QUIET)
            opened.then(self.finish.shown, [self.asked, language], self.finish.outputs, **QUIET)
        self.buttons["compare"].click(self.compare, state, acting, **quiet).then(None, None, None, js=_TO_HINT, **QUIET)
        self.buttons["redecode"].click(self.decode_again, state, acting, **quiet)
        self.finish.again.click(self.finish_again, [*state, *self.finish.fields.values()], acting, **quiet)
        self.finish.take.click(self.take_offer, state, acting, **quiet)
        self.finish.undo.click(self.unfinish, state, acting, **quiet)
        self.extend.click(self.extend_by, [self.asked, self.more_seconds, language, *filters], acting, **quiet)
        self.buttons["delete"].click(self.delete, state, opening, **quiet)
        self.undo.click(self.restore, state, acting, **quiet)
        filling = [self.told, tabs, self.timer, *form.sources, *form.inputs]
        self.buttons["use"].click(self.use, [self.asked, language], filling, **QUIET)
        self.detail.click(self.use_chosen, [self.asked, language], filling, **QUIET)
        self.buttons["continue"].click(self.go_on, [self.asked, language], filling, **QUIET)
        for slider in self.look_values:
            slider.change(None, self.look_values, None, js=_SHOW_LOOK, **QUIET)
        self.as_made.click(None, None, self.look_values, js=f"() => {_AS_MADE}", **QUIET)
        exporting = [self.asked, language, self.format, self.fps, self.quality, *self.look_values]
        self.export.click(self.write, exporting, [self.told, self.link], **{**QUIET, "show_progress": "minimal"})

    # --- looking ---

    def look(self, request: gr.Request | None, drawn: Drawn, asked: Browsing, locale: str, *filters: Any) -> list[Any]:
        """The cards as they are now. Where nothing has come or gone, the whole list is not read."""
        own, locale, wanted = OwnJobs.of(self.service, request), known(locale), _wanted(filters)
        newest = tuple(job.id for job in own.jobs(states=("done",), limit=PAGE))
        latest = replace(drawn, asked=asked, wanted=wanted, locale=locale, newest=newest, pending=False)
        if latest == drawn:
            return [gr.skip()] * 5
        jobs = _finished_jobs(own)
        cards, more, pending = self._cards(jobs, asked, wanted, locale)
        offered = choices((job.request.model for job in jobs), locale), choices(map(size_of, jobs), locale)
        updates = [gr.skip() if offered == drawn.filters else gr.update(choices=values) for values in offered]
        return [replace(latest, filters=offered, pending=pending), cards, more, *updates]

    def filter(self, request: gr.Request | None, asked: Browsing, locale: str, *filters: Any) -> list[Any]:
        """The cards that are asked for, from the first page."""
        return self._redrawn(request, replace(asked, pages=1), locale, filters)

    def show_more(self, request: gr.Request | None, asked: Browsing, locale: str, *filters: Any) -> list[Any]:
        """One page more of them."""
        return self._redrawn(request, replace(asked, pages=asked.pages + 1), locale, filters)

    def choose(
        self, request: gr.Request | None, chosen: gr.EventData, asked: Browsing, locale: str, *filters: Any
    ) -> list[Any]:
        """What was pressed on a card or beside the open video: a video opened, or set beside the one to compare it
        with; or no longer so."""
        act, job_id = getattr(chosen, "act", ""), getattr(chosen, "id", "")
        if act == "use":
            return [gr.skip()] * 10
        if act == "close":
            return [*self._redrawn(request, replace(asked, opened="", first=""), locale, filters), *_CLOSED]
        if act == "alone":
            return [*self._redrawn(request, replace(asked, first=""), locale, filters), *[gr.skip()] * 5]
        own, said = OwnJobs.of(self.service, request), known(locale)
        try:
            job = _finished(own, job_id)
            if act == "measure":
                own.steadiness(job.id)
            if act == "second" and asked.first:
                html, more = side_by_side(_finished(own, asked.first), job, said), ""
                now = replace(asked, first="")
            else:
                around = neighbours(matching(_finished_jobs(own), _wanted(filters), _measured), job.id)
                html = opened(job, said, *around, kept_steadiness(job.folder))
                more = about(job, _view(own, job), said, kept_prediction(job.folder))
                now = replace(asked, opened=job.id, first="")
        except UserError as error:
            return [*self._redrawn(request, replace(asked, first=""), locale, filters, error), *[gr.skip()] * 5]
        shown = [gr.update(visible=True), html, more, job.request.video_fps, ""]
        return [*self._redrawn(request, now, locale, filters), *shown]

    def from_queue(
        self, request: gr.Request | None, chosen: gr.EventData, asked: Browsing, locale: str, *filters: Any
    ) -> list[Any]:
        """A finished row of the queue, opened here; the page's script turns to this tab."""
        if getattr(chosen, "act", "") != "open":
            return [gr.skip()] * 10
        return self.choose(request, chosen, asked, locale, *filters)

    # --- doing ---

    def compare(self, request: gr.Request | None, asked: Browsing, locale: str, *filters: Any) -> list[Any]:
        """From now the next card is set beside the open one."""
        return self._redrawn(request, replace(asked, first=asked.opened), locale, filters)

    def decode_again(self, request: gr.Request | None, asked: Browsing, locale: str, *filters: Any) -> list[Any]:
        """A new video from the latents of the open one, in the queue."""
        return self._decoded(request, asked, locale, filters, {})

    def finish_again(self, request: gr.Request | None, asked: Browsing, locale: str, *values: Any) -> list[Any]:
        """The same, its frames finished as the panel says. `values`: of the filters, and of the panel's fields."""
        count = len(self.finish.fields)
        changes = asked_values(dict(zip(self.finish.fields, values[-count:], strict=True)))
        return self._decoded(request, asked, locale, values[:-count], changes)

    def take_offer(self, request: gr.Request | None, asked: Browsing, locale: str, *filters: Any) -> list[Any]:
        """The same, steadied as its measures suggest."""
        try:
            changes = self.finish.offered(request, asked.opened)
        except UserError as error:
            return self._redrawn(request, asked, locale, filters, error)
        return self._decoded(request, asked, locale, filters, changes)

    def unfinish(self, request: gr.Request | None, asked: Browsing, locale: str, *filters: Any) -> list[Any]:
        """The same, its frames as they were decoded."""
        return self._decoded(request, asked, locale, filters, asked_values({}))

    def _decoded(
        self,
        request: gr.Request | None,
        asked: Browsing,
        locale: str,
        filters: Sequence[Any],
        changes: Mapping[str, Any],
    ) -> list[Any]:
        try:
            job_id = OwnJobs.of(self.service, request).redecode(asked.opened, changes)
        except UserError as error:
            return self._redrawn(request, asked, locale, filters, error)
        return self._redrawn(request, asked, locale, filters, text("gallery_queued", known(locale), id=job_id))

    def extend_by(
        self, request: gr.Request | None, asked: Browsing, seconds: float, locale: str, *filters: Any
    ) -> list[Any]:
        """A new video that shows the open one and goes on for `seconds` more, in the queue."""
        try:
            job_id = OwnJobs.of(self.service, request).extend(asked.opened, {"seconds": seconds})
        except UserError as error:
            return self._redrawn(request, asked, locale, filters, error)
        told = text("gallery_extended", known(locale), id=job_id, seconds=f"{float(seconds):g}")
        return self._redrawn(request, asked, locale, filters, told)

    def delete(self, request: gr.Request | None, asked: Browsing, locale: str, *filters: Any) -> list[Any]:
        """The open video into the bin; "undo" brings it back."""
        try:
            OwnJobs.of(self.service, request).delete(asked.opened)
        except UserError as error:
            return [*self._redrawn(request, asked, locale, filters, error), *[gr.skip()] * 5]
        now = replace(asked, opened="", first="", deleted=asked.opened)
        return [*self._redrawn(request, now, locale, filters, text("gallery_deleted", known(locale))), *_CLOSED]

    def restore(self, request: gr.Request | None, asked: Browsing, locale: str, *filters: Any) -> list[Any]:
        """The video deleted last, out of the bin."""
        now, told = replace(asked, deleted=""), None
        try:
            OwnJobs.of(self.service, request).restore(asked.deleted)
        except UserError as error:
            told = error
        return self._redrawn(request, now, locale, filters, told)

    def use(self, request: gr.Request | None, asked: Browsing, locale: str) -> list[Any]:
        """The form on Create as the open video was asked for, its seed too."""
        own = OwnJobs.of(self.service, request)
        return self._fill(
            own, asked, locale, lambda job: [*sources_of(job.folder, job.request), *same_again(job.request)]
        )

    def use_chosen(self, request: gr.Request | None, chosen: gr.EventData, asked: Browsing, locale: str) -> list[Any]:
        """The same of one of two that are compared, by its own button."""
        if getattr(chosen, "act", "") != "use":
            return [gr.skip()] * (len(FIELDS) + 6)
        return self.use(request, replace(asked, opened=getattr(chosen, "id", "")), locale)

    def go_on(self, request: gr.Request | None, asked: Browsing, locale: str) -> list[Any]:
        """The same, with the open video's last frame for a picture and a new seed."""
        own = OwnJobs.of(self.service, request)

        def continued(job: JobStatus) -> list[Any]:
            return [str(own.last_frame(job.id)), None, None, *form_values(job.request)]

        return self._fill(own, asked, locale, continued)

    def _fill(self, own: OwnJobs, asked: Browsing, locale: str, make: Callable[[JobStatus], list[Any]]) -> list[Any]:
        """`make` gives photograph, video, last picture and the values of FIELDS."""
        try:
            values = make(_finished(own, asked.opened))
        except UserError as error:
            return [panels.problem(error.message, known(locale)), *[gr.skip()] * (len(FIELDS) + 5)]
        return ["", gr.Tabs(selected=self.create), gr.Timer(active=False), *values]

    def write(
        self,
        request: gr.Request | None,
        asked: Browsing,
        locale: str,
        format: str,
        fps: float | None,
        quality: str,
        *look: float,
    ) -> list[Any]:
        """The open video in another format and other colours, and a link to it."""
        values = {"format": format, "fps": fps, "quality": quality, **dict(zip(LIMITS, look, strict=True))}
        try:
            own = OwnJobs.of(self.service, request)
            path, job = own.export(asked.opened, values), own.status(asked.opened)
        except UserError as error:
            return [panels.problem(error.message, known(locale)), ""]
        return ["", exported(job, path, known(locale))]

    # --- helpers ---

    def _cards(self, jobs: list[JobStatus], asked: Browsing, wanted: Wanted, locale: str) -> tuple[str, Any, bool]:
        """The cards, the "more" button, and whether posters are still being made."""
        found = matching(jobs, wanted, _measured)
        drawn = found[: asked.pages * PAGE]
        posters = {job.id: self.posters.poster(job.folder) for job in drawn}
        if drawn:
            html = grid(drawn, len(found), posters, locale, asked.opened, asked.first, wanted.order, _measured)
        else:
            html = no_cards(bool(jobs), locale)
        pending = any(self.posters.coming(job.folder) for job in drawn)
        return html, gr.update(visible=len(found) > len(drawn)), pending

    def _redrawn(
        self,
        request: gr.Request | None,
        asked: Browsing,
        locale: str,
        filters: Sequence[Any],
        told: str | UserError | None = None,
    ) -> list[Any]:
        """What an action sends: the cards as they now are, and what is to be said."""
        locale = known(locale)
        cards, more, _ = self._cards(_finished_jobs(OwnJobs.of(self.service, request)), asked, _wanted(filters), locale)
        if isinstance(told, UserError):
            said = panels.problem(told.message, locale)
        else:
            said = panels.note(told, calm=True) if told else ""
        return [asked, cards, more, said, gr.update(visible=bool(asked.deleted))]


def _finished(own: OwnJobs, job_id: object) -> JobStatus:
    """Raises UserError for a job that is not there, or has no video."""
    job = own.status(job_id if isinstance(job_id, str) else "")
    own.result(job.id)
    return job


def _finished_jobs(own: OwnJobs) -> list[JobStatus]:
    """Every finished job that made a video, the newest first."""
    return [job for job in own.jobs(states=("done",)) if job.task != "train"][::-1]


def _view(own: OwnJobs, job: JobStatus) -> JobView:
    view = JobView()
    for _seq, event in own.events(job.id):
        view = advance(view, event)
    return view


def _wanted(filters: Sequence[Any]) -> Wanted:
    """The filters' values as the browser sent them."""
    search, model, size, steadiness, order = filters
    steadiness, order = str(steadiness or AUTO), order if order in ORDERS else NEWEST
    return Wanted(str(search or ""), str(model or AUTO), str(size or AUTO), steadiness, order)


def _measured(job: JobStatus) -> Steadiness | None:
    """What was measured of the job's video, without the single frames."""
    return kept_summary(job.folder)


_CLOSED = (gr.update(visible=False), "", "", gr.skip(), "")
"""Nothing open: no video, no run, the rate for an export as it was, no link."""
