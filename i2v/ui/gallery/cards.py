"""The gallery's cards as HTML, and which of the videos are wanted. Pure functions; every text is escaped here."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from i2v.jobs.job.folder import VIDEO
from i2v.jobs.job.record import JobStatus
from i2v.request import AUTO
from i2v.ui.queue.rows import facts, thumbnail
from i2v.ui.shown.panels import file_url
from i2v.ui.texts import text
from i2v.video.steadiness import FINDINGS, Steadiness
from i2v.video.steadiness_words import findings

STEADINESS = ("steady", *FINDINGS, "unmeasured")
NEWEST = "newest"
_PLACES: Mapping[str, Callable[[Steadiness], float]] = {
    "steadiest": lambda report: report.unsteadiness,
    "flicker": lambda report: -report.flicker,
    "motion": lambda report: -report.motion,
}
ORDERS = (NEWEST, *_PLACES)

PAGE = 24
"""How many cards are drawn at first, and with each "more"."""


@dataclass(frozen=True)
class Wanted:
    """What the gallery is to show: every word of `search` in prompt or model, and the chosen model, size and
    steadiness, one of STEADINESS ("auto" stands for any); and in which of ORDERS."""

    search: str = ""
    model: str = AUTO
    size: str = AUTO
    steadiness: str = AUTO
    order: str = NEWEST


def matching(
    jobs: Iterable[JobStatus], wanted: Wanted, measured: Callable[[JobStatus], Steadiness | None] = lambda job: None
) -> list[JobStatus]:
    """The jobs that are wanted, in the order that is wanted; `jobs` are given the newest first. `measured`: a job's
    report. A job without one comes after those that have one."""
    words = wanted.search.casefold().split()

    def fits(job: JobStatus) -> bool:
        told = f"{job.request.prompt} {job.request.model}".casefold()
        return (
            all(word in told for word in words)
            and wanted.model in (AUTO, job.request.model)
            and wanted.size in (AUTO, size_of(job))
            and (wanted.steadiness == AUTO or wanted.steadiness in _told_of(measured(job)))
        )

    def place(job: JobStatus) -> float:
        report = measured(job)
        return math.inf if report is None else _PLACES[wanted.order](report)

    found = [job for job in jobs if fits(job)]
    return sorted(found, key=place) if wanted.order in _PLACES else found


def _told_of(report: Steadiness | None) -> tuple[str, ...]:
    """Under which of STEADINESS a video is found."""
    return ("unmeasured",) if report is None else report.findings or ("steady",)


def size_of(job: JobStatus) -> str:
    """A size as it is chosen from: 512×320."""
    return "{}×{}".format(*job.request.video_size)


def choices(values: Iterable[str], locale: str) -> list[tuple[str, str]]:
    """What a filter offers: any, then each value once, in order of the numbers in it."""

    def order(value: str) -> tuple[list[int], str]:
        return [int(part) for part in value.split("×") if part.isdecimal()], value

    return [(text("gallery_any", locale), AUTO), *((value, value) for value in sorted(set(values), key=order))]


def grid(
    jobs: Sequence[JobStatus],
    found: int,
    posters: Mapping[str, str | None],
    locale: str,
    opened: str = "",
    first: str = "",
    order: str = NEWEST,
    measured: Callable[[JobStatus], Steadiness | None] = lambda job: None,
) -> str:
    """Cards for `jobs`, the part that is drawn of those `found`, in `order`. `opened` is marked; with `first`, a card
    chooses what that one is compared with. A card tells what is not steady in its video, by `measured`."""
    cards = "".join(_card(job, posters.get(job.id), measured(job), locale, opened, first) for job in jobs)
    hint = _choose_second(first, locale) if first else ""
    count = _say("gallery_count", locale, shown=len(jobs), count=found, order=_say(f"gallery_order_{order}", locale))
    return f'{hint}<p class="i2v-gallery-count">{count}</p><ul class="i2v-cards">{cards}</ul>'


def no_cards(any_video: bool, locale: str) -> str:
    """The place of the cards where none is to be shown: nothing fits the search, or there is no video yet."""
    return f'<div class="i2v-stage i2v-empty">{_say("gallery_nothing" if any_video else "gallery_empty", locale)}</div>'


def neighbours(jobs: Sequence[JobStatus], job_id: str) -> tuple[str, str]:
    """The ids of the videos before and after this one among those that are shown, "" where there is none."""
    ids = [job.id for job in jobs]
    if job_id not in ids:
        return "", ""
    place = ids.index(job_id)
    return ids[place - 1] if place else "", ids[place + 1] if place + 1 < len(ids) else ""


def _choose_second(first: str, locale: str) -> str:
    """What a card now does, and a way back."""
    back = (
        f'<button type="button" class="i2v-act" data-act="alone" data-id="{escape(first)}">'
        f"{_say('act_compare_stop', locale)}</button>"
    )
    return f'<p class="i2v-gallery-hint" role="status" tabindex="-1">{_say("gallery_choose_second", locale)} {back}</p>'


def _card(job: JobStatus, poster: str | None, report: Steadiness | None, locale: str, opened: str, first: str) -> str:
    request, prompt = job.request, escape(job.request.prompt)
    act, word = ("second", "act_compare_with") if first else ("open", "act_open")
    marked = ' aria-current="true"' if job.id in (opened, first) else ""
    more = [_say("job_decode_only", locale)] if job.task == "decode" else []
    more += [escape(findings(report, locale))] if report and report.findings else []
    told = " · ".join([*facts(job, locale), *more])
    video = escape(file_url(job.folder / VIDEO))  # plays while the pointer is on the card
    return (
        f'<li><button type="button" class="i2v-video-card" data-act="{act}" data-id="{escape(job.id)}"'
        f' data-video="{video}"'
        f' aria-label="{_say(word, locale)}: {prompt[:80]}"{marked}{" disabled" if job.id == first else ""}>'
        f'<span class="i2v-frame" style="aspect-ratio:{request.width}/{request.height}">{thumbnail(poster)}</span>'
        f'<span class="i2v-card-prompt">{prompt}</span><span class="i2v-card-facts">{told}</span></button></li>'
    )


def _say(name: str, locale: str, /, **params: object) -> str:
    return escape(text(name, locale, **params))
