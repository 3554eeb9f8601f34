"""The Queue tab: every job that has not ended in the order in which it will run, and the last that ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from i2v.events import FINAL_STATES
from i2v.jobs.job.record import JobStatus
from i2v.jobs.job.states import AT_WORK, LIVE, NotAllowed
from i2v.messages import UserError
from i2v.ui.gate.own import OwnJobs
from i2v.ui.queue.rows import Seen, in_order, places_in_line, queue_list, queue_summary
from i2v.ui.shown import panels
from i2v.ui.shown.follow import Followers
from i2v.ui.shown.panels import file_url
from i2v.ui.shown.posters import Posters
from i2v.ui.shown.sources import sources_of
from i2v.ui.shown.view import JobView
from i2v.ui.tabs import CHOOSE, HOVER, LANGUAGE, QUIET, while_selected
from i2v.ui.texts import known, text

if TYPE_CHECKING:
    from i2v.jobs.service import JobService

TICK_SECONDS = 2.0
LAST_ENDED = 5
_QUEUE = Path(__file__).with_name("queue.js").read_text(encoding="utf-8")


@dataclass(frozen=True)
class QueueShown:
    """What the last look sent, so that the next sends only what is new. Actions send the list too and do not write
    this: where a look and an action cross, the next look puts right what came late."""

    html: str = ""
    summary: str = ""
    paused: bool | None = None
    locale: str = ""


class QueueTab:
    """Components and callbacks of the tab, laid out where it is made."""

    def __init__(
        self,
        service: JobService,
        followers: Followers,
        posters: Posters,
        tabs: gr.Tabs,
        tab: gr.Tab,
        language: gr.Radio,
        locale: str,
        i18n: gr.I18n,
        *,
        card: bool,
    ) -> None:
        """`card`: whether there is one to lend."""
        self.service, self.followers, self.posters = service, followers, posters
        self.shown = gr.State(QueueShown())
        self.wishes = gr.State({})  # what jobs were asked to do after their step, by id: "cancel" or "pause"
        self.timer = gr.Timer(TICK_SECONDS, active=False)
        with gr.Row(elem_id="i2v-queue-top"):
            self.summary = gr.HTML(queue_summary((), False, 0.0, locale), elem_id="i2v-queue-summary")
            self.paused = gr.Checkbox(
                label=i18n("ui.queue_pause"), container=False, scale=0, min_width=180, elem_id="i2v-queue-pause"
            )
            self.lend = gr.Button(
                i18n("ui.queue_lend"), size="sm", scale=0, min_width=220, visible=card, elem_id="i2v-queue-lend"
            )
        self.told = gr.HTML("", elem_id="i2v-queue-told")
        self.list = gr.HTML("", js_on_load=CHOOSE + HOVER + _QUEUE, elem_id="i2v-queue-list")
        outputs = [self.list, self.summary, self.paused, self.lend]
        state = [self.wishes, language]
        looking = {"inputs": [self.shown, *state], "outputs": [self.shown, *outputs], **QUIET}
        acting = {"outputs": [self.wishes, self.told, *outputs], **QUIET}
        tab.select(self.look, js=f"(shown, wishes) => [shown, wishes, {LANGUAGE}]", **looking)
        while_selected(tabs, tab, self.timer)
        self.timer.tick(self.look, **looking)
        self.list.click(self.act, state, **acting)
        self.paused.input(self.hold, [self.paused, *state], **acting)
        self.lend.click(self.lend_card, state, **acting)

    def look(self, request: gr.Request | None, shown: QueueShown, wishes: Mapping[str, str], locale: str) -> list[Any]:
        """The list as it stands; what the browser has already is skipped."""
        latest = self._now(OwnJobs.of(self.service, request), wishes, locale)
        relabel = (latest.paused, latest.locale) != (shown.paused, shown.locale)
        return [
            gr.skip() if latest == shown else latest,
            gr.skip() if latest.html == shown.html else latest.html,
            gr.skip() if latest.summary == shown.summary else latest.summary,
            gr.skip() if latest.paused == shown.paused else latest.paused,
            _lend_update(latest) if relabel else gr.skip(),
        ]

    def act(
        self, request: gr.Request | None, wishes: Mapping[str, str], locale: str, chosen: gr.EventData
    ) -> list[Any]:
        """What a button of the list says, done."""
        own = OwnJobs.of(self.service, request)
        act, job_id = getattr(chosen, "act", None), getattr(chosen, "id", None)
        if act == "place" and isinstance(job_id, str):
            place = getattr(chosen, "place", None)
            return self._done(own, lambda: _move_to(own, job_id, place), wishes, locale)
        if act not in _ACTS or not isinstance(job_id, str):
            return self._done(own, lambda: None, wishes, locale)
        kept = {of: wish for of, wish in wishes.items() if of != job_id}
        if act in ("cancel", "pause"):
            kept[job_id] = act
        return self._done(own, lambda: _ACTS[act](own, job_id), kept, locale)

    def hold(self, request: gr.Request | None, paused: bool, wishes: Mapping[str, str], locale: str) -> list[Any]:
        """Start no further job, or go on."""
        own = OwnJobs.of(self.service, request)
        return self._done(own, lambda: own.pause_queue(bool(paused)), wishes, locale)

    def lend_card(self, request: gr.Request | None, wishes: Mapping[str, str], locale: str) -> list[Any]:
        """Give the card away; or, where the queue rests, take it back."""
        own = OwnJobs.of(self.service, request)
        return self._done(own, own.lend_card, {}, locale)

    def _done(self, own: OwnJobs, do: Callable[[], object], wishes: Mapping[str, str], locale: str) -> list[Any]:
        told = ""
        try:
            do()
        except UserError as error:
            told = panels.problem(error.message, known(locale))
        except NotAllowed:  # it began or ended in the meantime: the list shows it as it is now
            pass
        latest = self._now(own, wishes, locale)
        return [dict(wishes), told, latest.html, latest.summary, latest.paused, _lend_update(latest)]

    def _now(self, own: OwnJobs, wishes: Mapping[str, str], locale: str) -> QueueShown:
        locale, now = known(locale), time.time()
        live = own.jobs(states=LIVE)
        ended = own.jobs(states=FINAL_STATES, limit=LAST_ENDED)
        jobs = in_order({job.id: job for job in (*live, *ended)}.values())  # one may end between the two looks
        at_work = {job.id for job in live if job.state in AT_WORK}
        waiting_wishes = {job_id: wish for job_id, wish in wishes.items() if job_id in at_work}
        paused = self.service.queue_paused
        seen = {job.id: self._seen(job) for job in jobs}
        return QueueShown(
            queue_list(jobs, seen, waiting_wishes, now, locale),
            queue_summary(live, paused, now, locale, others=own.others_at_work()),
            paused,
            locale,
        )

    def _seen(self, job: JobStatus) -> Seen:
        if job.task == "train":
            return Seen()
        photograph, clip, _ = sources_of(job.folder, job.request)
        picture = self.posters.source(job.folder, photograph, clip)
        if job.state not in (*AT_WORK, "done"):
            return Seen(picture)
        view = JobView()
        with suppress(UserError):  # deleted meanwhile
            view = self.followers.view(job.id)
        if job.state == "done":
            return Seen(self.posters.poster(job.folder) or picture, view.seconds or None)
        return Seen(file_url(job.folder / view.preview, view.preview_step) if view.preview else picture)


def _move(by: int) -> Callable[[OwnJobs, str], None]:
    def move(own: OwnJobs, job_id: str) -> None:
        places = places_in_line(own.jobs(states=("queued",)))
        if job_id in places:
            own.move(job_id, places[job_id][0] + by)

    return move


def _move_to(own: OwnJobs, job_id: str, place: object) -> None:
    """Where it was dropped, as far as its line goes."""
    places = places_in_line(own.jobs(states=("queued",)))
    if job_id in places and isinstance(place, int) and 1 <= place <= places[job_id][1]:
        own.move(job_id, place)


_ACTS: Mapping[str, Callable[[OwnJobs, str], Any]] = {
    "top": lambda own, job_id: _move_to(own, job_id, 1),
    "up": _move(-1),
    "down": _move(+1),
    "pause": lambda own, job_id: own.pause(job_id),
    "resume": lambda own, job_id: own.resume(job_id),
    "cancel": lambda own, job_id: own.cancel(job_id),
    "retry": lambda own, job_id: own.retry(job_id),
}


def _lend_update(shown: QueueShown) -> Any:
    return gr.update(value=text("queue_take_back" if shown.paused else "queue_lend", shown.locale))
