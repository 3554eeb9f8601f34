"""The scout: several seeds run for their first third, side by side as previews; the best goes on from there.

Scouts are jobs like any other that lay themselves down at a step. The page keeps only their ids, in the browser.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

from i2v.events import FINAL_STATES
from i2v.jobs.asked.prepare import build_request
from i2v.jobs.job.record import JobStatus
from i2v.jobs.job.states import NotAllowed
from i2v.messages import UserError
from i2v.settings.settings import Settings
from i2v.settings.values import Whole
from i2v.ui.api import unexpected
from i2v.ui.create.asking import agreed, asked_first, asks
from i2v.ui.create.fold import fold
from i2v.ui.create.form import SEED_LIMIT, Form
from i2v.ui.create.given import given, values_given
from i2v.ui.gate.own import OwnJobs
from i2v.ui.gate.secret import browser_secret
from i2v.ui.shown import panels
from i2v.ui.shown.follow import Followers
from i2v.ui.shown.format import status_parts
from i2v.ui.shown.view import JobView
from i2v.ui.tabs import CHOOSE, LANGUAGE, QUIET
from i2v.ui.texts import known, text

if TYPE_CHECKING:
    from i2v.jobs.service import JobService

TICK_SECONDS = 1.0
FEWEST, MOST, USUAL = 2, 6, 3


@dataclass(frozen=True)
class Scouts:
    """The jobs that were sent out together, in their order, and those of them that were told to go on."""

    ids: tuple[str, ...] = ()
    picked: frozenset[str] = frozenset()

    @classmethod
    def of(cls, kept: Any) -> Scouts:
        """What the browser kept; nothing where that cannot be read."""
        if not isinstance(kept, dict):
            return cls()
        ids, picked = ([one for one in kept.get(key) or () if isinstance(one, str)] for key in ("ids", "picked"))
        return cls(tuple(ids[:MOST]), frozenset(ids[:MOST]) & frozenset(picked))

    def kept(self) -> dict[str, list[str]]:
        """For the browser."""
        return {"ids": list(self.ids), "picked": sorted(self.picked)}


_UNFOLD = """(board) => {
    const button = document.querySelector("#i2v-scout > .i2v-fold-button");
    if (board && button?.getAttribute("aria-expanded") !== "true") button?.click();
    return [];
}"""
"""A page that opens while scouts are out shows them."""


@dataclass(frozen=True)
class Scouting:
    """One scout as it stands. `held`: it waits because the queue is paused."""

    job: JobStatus
    view: JobView
    picked: bool
    held: bool = False

    @property
    def undecided(self) -> bool:
        """Whether it may still be told to go on, or be dropped."""
        return not self.picked and self.job.state not in FINAL_STATES

    @property
    def moving(self) -> bool:
        """Whether there is more to come by itself. The events may be a moment behind the list."""
        return self.job.state not in ("paused", *FINAL_STATES) or self.view.progress.state != self.job.state


def first_third(steps: int) -> int:
    """After which of `steps` denoising steps a scout lays itself down."""
    return -(-steps // 3)


def board(scouts: Sequence[Scouting], locale: str) -> str:
    """The scouts side by side as HTML, each with the button that lets it go on, or shows it."""
    if not scouts:
        return ""
    return f'<ul class="i2v-cards i2v-scouts">{"".join(_card(one, locale) for one in scouts)}</ul>'


def status_line(scouts: Sequence[Scouting], locale: str) -> str:
    """What a page that shows no job says of its scouts; that it is ready where none is out."""
    moving = sum(one.moving for one in scouts)
    if moving:
        line = text("state_scouts", locale, n=moving)
        return f"{line} · {text('queue_is_paused', locale)}" if all(one.held for one in scouts if one.moving) else line
    return text("state_scouts_done" if any(one.undecided for one in scouts) else "state_ready", locale)


def _card(one: Scouting, locale: str) -> str:
    job, view = one.job, one.view
    ratio = f"aspect-ratio:{job.request.width}/{job.request.height}"
    seed = text("scout_seed", locale, seed=job.request.seed)
    picture = f'<span class="i2v-thumb" style="{ratio}"></span>'
    if view.preview and (job.folder / view.preview).is_file():
        source = panels.file_url(job.folder / view.preview, view.preview_step)
        picture = f'<img class="i2v-thumb" style="{ratio}" src="{source}" alt="{escape(seed)}">'
    parts = status_parts(view, job.position, held=one.held, waits_for=job.waits_for)
    told = " · ".join(part.render(locale) for part in parts)
    act, held = ("show", "") if one.picked or view.video else ("go_on", "" if job.state == "paused" else " disabled")
    name = escape(text(f"scout_{act}", locale))
    button = (
        f'<button type="button" class="i2v-act" data-act="{act}" data-id="{escape(job.id)}"{held}'
        f' aria-label="{name}, {escape(seed)}">{name}</button>'
    )
    gone = view.progress.state in ("failed", "cancelled")
    return (
        f'<li class="i2v-scout{" picked" if one.picked else ""}">{picture}<p><strong>{escape(seed)}</strong><br>'
        f"{escape(told)}</p>{'' if gone else button}</li>"
    )


class Scout:
    """Components and callbacks of the panel, laid out where it is made."""

    def __init__(self, service: JobService, followers: Followers, settings: Settings, i18n: gr.I18n) -> None:
        self.service = service
        self.followers = followers
        self.settings = settings
        self.kept = gr.BrowserState(None, storage_key="i2v-scouts", secret=browser_secret())
        self.shown = gr.State("")
        self.timer = gr.Timer(TICK_SECONDS, active=False)
        with fold(i18n("ui.scout"), "i2v-scout"):
            gr.Markdown(i18n("ui.scout_help"))
            with gr.Row(elem_id="i2v-scout-row"):
                self.count = gr.Slider(FEWEST, MOST, USUAL, step=1, label=i18n("ui.scout_count"), min_width=220,
                                       elem_id="i2v-scout-count")  # fmt: skip
                self.send = gr.Button(i18n("ui.scout_send"), size="sm", min_width=120, elem_id="i2v-scout-send")
                self.drop = gr.Button(
                    i18n("ui.scout_drop"), size="sm", min_width=120, interactive=False, elem_id="i2v-scout-drop"
                )
            self.told = gr.HTML("", elem_id="i2v-scout-told")
            self.question = gr.Textbox(visible=False)
            self.board = gr.HTML("", js_on_load=CHOOSE, elem_id="i2v-scout-board")

    def connect(
        self,
        page: gr.Blocks,
        form: Form,
        language: gr.Radio,
        follow: Callable[[gr.Request | None, Callable[[], str], str], list[Any]],
        following: Sequence[Any],
        job_id: gr.BrowserState,
        status: gr.HTML,
    ) -> None:
        """`follow` makes the page show the job that its argument names, by updates for `following`. Where it shows
        none, `job_id` is empty and `status` is about the scouts."""
        board = [self.shown, self.board, self.send, self.drop, self.timer]
        looked = [*board, status]

        def act(request: gr.Request | None, kept: Any, locale: str, chosen: gr.EventData) -> list[Any]:
            act, job_id = getattr(chosen, "act", None), getattr(chosen, "id", None)
            scouts = Scouts.of(kept)
            if act not in ("go_on", "show") or job_id not in scouts.ids:
                return [gr.skip()] * (1 + len(board) + len(following))
            updates = follow(request, lambda: self.go_on(request, job_id) if act == "go_on" else job_id, locale)
            scouts = replace(scouts, picked=scouts.picked | {job_id})
            return [scouts.kept(), *self.look(request, scouts.kept(), None, locale)[: len(board)], *updates]

        picture = [language, self.question, self.count, job_id, *form.sources, *form.inputs]
        looking = [self.kept, self.shown, language, job_id]
        self.send.click(
            self.asked_first, picture, [self.kept, self.told, *looked, self.question],
            preprocess=False, js=agreed("i2v-scout-send"), **QUIET,
        ).then(None, self.question, None, js=asks("i2v-scout-send"), **QUIET)  # fmt: skip
        self.board.click(act, [self.kept, language], [self.kept, *board, *following], **QUIET)
        self.drop.click(self.dropped, [self.kept, language, job_id], [self.kept, *looked], **QUIET)
        self.timer.tick(self.look, looking, looked, **QUIET)
        found = {"js": f"(kept, _, id) => [kept, {LANGUAGE}, id]", **QUIET}
        opened = page.load(self.found, [self.kept, language, job_id], looked, **found)
        opened.then(None, self.board, None, js=_UNFOLD, **QUIET)
        language.change(self.look, looking, looked, **QUIET)

    def asked_first(
        self,
        request: gr.Request | None,
        locale: str,
        agreed: Any,
        count: Any,
        job_id: str,
        picture: Any,
        clip: Any,
        last: Any,
        *raw: Any,
    ) -> list[Any]:
        """Scouts, or in their place what to ask before some that take hours, unless that was `agreed` to."""
        values = values_given(raw, self.settings)
        if agreed is not True and (question := asked_first(self.service, values, known(locale), count)):
            return [*[gr.skip()] * 8, question]
        return [*self.sent(request, locale, count, job_id, picture, clip, last, *raw), ""]

    def sent(
        self,
        request: gr.Request | None,
        locale: str,
        count: Any,
        job_id: str,
        picture: Any,
        clip: Any,
        last: Any,
        *raw: Any,
    ) -> list[Any]:
        """As many scouts as asked for, each with a seed of its own; where not all can be sent, why."""
        ids: list[str] = []
        told, locale = "", known(locale)
        try:
            asked = given(picture, clip, last, raw, self.settings)
            steps = build_request(asked.values, self.settings, to_run=False).num_inference_steps
            for seed in random.sample(range(SEED_LIMIT), Whole(FEWEST, MOST).parse(count, "scouts")):
                scout = {**asked.values, "seed": seed}
                own = OwnJobs.of(self.service, request)
                files = {"clip": asked.clip, "last_picture": asked.last_picture}
                ids.append(own.submit(scout, asked.picture, **files, stop_at=first_third(steps)))
        except UserError as error:
            told = panels.problem(error.message, locale)
        except Exception as error:
            told = panels.problem(unexpected(error, self.settings).message, locale)
        kept = Scouts(tuple(ids)).kept()
        return [kept, told, *self.look(request, kept, None, locale, job_id)]

    def go_on(self, request: gr.Request | None, job_id: str) -> str:
        """Let a scout run to its end. Raises UserError for a job that is gone, or another's."""
        with suppress(NotAllowed):  # somebody else decided in the meantime: the page shows what came of it
            OwnJobs.of(self.service, request).resume(job_id)
        return job_id

    def dropped(self, request: gr.Request | None, kept: Any, locale: str, job_id: str = "") -> list[Any]:
        """Ends every scout that was not told to go on; those that were stay on the board."""
        scouts = Scouts.of(kept)
        own = OwnJobs.of(self.service, request)
        for one in self._now(own, scouts):
            if one.undecided:
                with suppress(UserError, NotAllowed):
                    own.cancel(one.job.id)
        left = replace(scouts, ids=tuple(one for one in scouts.ids if one in scouts.picked)).kept()
        return [left, *self.look(request, left, None, locale, job_id)]

    def found(self, request: gr.Request | None, kept: Any, locale: str, job_id: str = "") -> list[Any]:
        """The panel of a page that opens."""
        return self.look(request, kept, None, locale, job_id)

    def status(self, request: gr.Request | None, kept: Any, locale: str) -> str:
        """The status panel of a page that shows no job."""
        scouts = self._now(OwnJobs.of(self.service, request), Scouts.of(kept))
        return panels.idle(status_line(scouts, known(locale)))

    def look(
        self, request: gr.Request | None, kept: Any, shown: str | None, locale: str, job_id: str = ""
    ) -> list[Any]:
        """The board, the two buttons, the timer, and the status of a page without a job; what the browser has already
        is skipped."""
        scouts = self._now(OwnJobs.of(self.service, request), Scouts.of(kept))
        html = board(scouts, known(locale))
        if html == shown:
            return [gr.skip()] * 6
        out = any(one.undecided for one in scouts)
        moving = any(one.moving for one in scouts)
        status = gr.skip() if job_id else panels.idle(status_line(scouts, known(locale)))
        send, drop = gr.update(interactive=not out), gr.update(interactive=out)
        return [html, html, send, drop, gr.update(active=moving), status]

    def _now(self, own: OwnJobs, scouts: Scouts) -> list[Scouting]:
        """The scouts that are still in the list."""
        found = []
        for job_id in scouts.ids:
            with suppress(UserError):
                job = own.status(job_id)
                view = self.followers.view(job_id)
                held = view.progress.state == "queued" and self.service.queue_paused
                found.append(Scouting(job, view, job_id in scouts.picked, held))
        return found
