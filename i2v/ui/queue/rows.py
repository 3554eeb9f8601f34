"""The list of jobs as HTML: what runs, what waits in its order, what ended last. Pure functions; every text is
escaped here."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from i2v.jobs.job.folder import VIDEO
from i2v.jobs.job.record import JobStatus
from i2v.jobs.job.states import AT_WORK, LIVE
from i2v.ui.gate.access import LOCAL
from i2v.ui.shown.format import clock
from i2v.ui.shown.panels import file_url
from i2v.ui.texts import text

ACTIONS: Mapping[str, tuple[str, ...]] = {
    "queued": ("top", "up", "down", "pause", "cancel"),
    "running": ("pause", "cancel"),
    "decoding": ("pause", "cancel"),
    "paused": ("resume", "cancel"),
    "failed": ("retry",),
    "cancelled": ("retry",),
    "done": ("open",),
}
"""What may be asked of a job, by its state."""
_SIGNS = {"top": "⤒", "up": "↑", "down": "↓"}


@dataclass(frozen=True)
class Seen:
    """What is to be seen of a job beside its row in the list. `picture`: the address of its photograph, of its newest
    preview while it runs, of its video's first frame. `seconds`: how long its run took, as the page says it too."""

    picture: str | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Times:
    """Seconds from now; None where that is unknown or over."""

    starts_in: float | None = None
    ends_in: float | None = None


def in_order(jobs: Collection[JobStatus]) -> list[JobStatus]:
    """Those at work, those that wait by their turn, those laid down, then those that ended, the last first."""

    def turn(job: JobStatus) -> tuple[int, float]:
        if job.state in AT_WORK:
            return 0, job.started or 0.0
        if job.state == "queued":
            return 1, job.position
        if job.state in LIVE:
            return 2, job.submitted
        return 3, -(job.ended or job.submitted)

    return sorted(jobs, key=turn)


def times(job: JobStatus, now: float) -> Times:
    """When the job's turn comes and when it will be done, as far as predictions go. `now`: unix seconds."""
    if job.state in AT_WORK:
        left = job.seconds_left
        if job.seconds_predicted is not None and job.started is not None:
            left = max(left or 0.0, job.seconds_predicted - (now - job.started))
        return Times(None, left)
    if job.state != "queued" or job.starts_in is None:
        return Times()
    return Times(job.starts_in, None if job.seconds_predicted is None else job.starts_in + job.seconds_predicted)


def places_in_line(jobs: Collection[JobStatus]) -> dict[str, tuple[int, int]]:
    """For each that waits, by its id: its place among those that it can change places with, from 1, and how many they
    are. Those are the waiting ones of the same owner and priority."""
    lines: dict[tuple[str, int], list[str]] = {}
    for job in sorted((job for job in jobs if job.state == "queued"), key=lambda job: job.position):
        lines.setdefault((job.owner, job.priority), []).append(job.id)
    return {job_id: (place, len(line)) for line in lines.values() for place, job_id in enumerate(line, start=1)}


def queue_list(
    jobs: Sequence[JobStatus],
    seen: Mapping[str, Seen],
    wishes: Mapping[str, str],
    now: float,
    locale: str,
) -> str:
    """The list of `jobs`, in the order they are in. `seen`: by job id. `wishes`: "cancel" or "pause" for jobs that
    were asked to and still run."""
    if not jobs:
        return f'<div class="i2v-stage i2v-empty">{_say("queue_empty", locale)}</div>'
    live = [job for job in jobs if job.state in LIVE]
    ended = [job for job in jobs if job.state not in LIVE]
    places = places_in_line(live)
    lists = [f'<ol class="i2v-jobs">{"".join(_row(job, places, seen, wishes, now, locale) for job in live)}</ol>']
    if not live:
        lists = [f'<p class="i2v-queue-idle">{_say("queue_idle", locale)}</p>']
    if ended:
        rows = "".join(_row(job, places, seen, wishes, now, locale) for job in ended)
        # Which of them are cleared away, the browser remembers: nothing is deleted.
        clear = f'<button type="button" class="i2v-act" data-clear>{_say("queue_clear", locale)}</button>'
        head = f'<div class="i2v-queue-ended"><h2>{_say("queue_ended", locale)}</h2>{clear}</div>'
        lists.append(f'<section class="i2v-recent">{head}<ul class="i2v-jobs">{rows}</ul></section>')
    return "".join(lists)


def queue_summary(jobs: Sequence[JobStatus], paused: bool, now: float, locale: str, *, others: bool = False) -> str:
    """One line: how many run and wait, and when the last of them will be done. `others`: a job that is not for this
    person to see is at work."""
    running = sum(job.state in AT_WORK for job in jobs)
    waiting = sum(job.state == "queued" for job in jobs)
    parts = [_say("queue_counts", locale, running=running, waiting=waiting)]
    if others:
        parts.append(_say("others_run", locale))
    ends = [times(job, now).ends_in for job in jobs if job.state in (*AT_WORK, "queued")]
    if len(ends) > 1 and all(end is not None for end in ends):
        parts.append(_say("queue_all_done", locale, time=about(max(end for end in ends if end is not None), locale)))
    if paused:
        parts.append(f"<strong>{_say('queue_is_paused', locale)}</strong>")
    return f'<p class="i2v-queue-summary">{" · ".join(parts)}</p>'


def thumbnail(address: str | None) -> str:
    """A small picture, or its place while there is none."""
    if address is None:
        return '<span class="i2v-thumb"></span>'
    return f'<img class="i2v-thumb" src="{escape(address)}" alt="" loading="lazy" decoding="async">'


def facts(job: JobStatus, locale: str) -> list[str]:
    """Model, size, length: escaped."""
    request = job.request
    width, height = request.video_size
    size = _say("job_size", locale, width=width, height=height, frames=request.video_frames)
    return [escape(request.model), size]


def _row(
    job: JobStatus,
    places: Mapping[str, tuple[int, int]],
    seen: Mapping[str, Seen],
    wishes: Mapping[str, str],
    now: float,
    locale: str,
) -> str:
    told, known = facts(job, locale), seen.get(job.id, Seen())
    if job.owner != LOCAL:
        told.append(_say("job_owner", locale, owner=job.owner))
    if job.task in ("decode", "train"):
        told.append(_say("job_decode_only" if job.task == "decode" else "job_trains", locale))
    error = ""
    reason = job.waits_for if job.state == "paused" else job.error
    if reason is not None:
        error = f'<p class="i2v-job-error">{escape(reason.render(locale))}</p>'
    return (
        f'<li class="i2v-job {escape(job.state)}"{_in_line(job, places)}>{_picture(job, known.picture)}'
        f'<div class="i2v-job-main"><p class="i2v-job-prompt">{escape(job.request.prompt)}</p>'
        f'<p class="i2v-job-facts">{" · ".join(told)}</p>'
        f'<p class="i2v-job-state">{_state(job, known, wishes.get(job.id), now, locale)}</p>{error}</div>'
        f'<div class="i2v-job-actions">{_buttons(job, places, wishes.get(job.id), locale)}</div></li>'
    )


def _in_line(job: JobStatus, places: Mapping[str, tuple[int, int]]) -> str:
    """What the page's script needs: of a waiting job its place in its line, to drag it; of an ended one the time."""
    place, of = places.get(job.id, (1, 1))
    if of > 1:
        line = escape(f"{job.priority} {job.owner}")
        return f' draggable="true" data-job="{escape(job.id)}" data-place="{place}" data-line="{line}"'
    return f' data-ended="{job.ended or job.submitted:.3f}"' if job.state not in LIVE else ""


def _picture(job: JobStatus, address: str | None) -> str:
    """The small picture. A finished video plays under the pointer, and leads to the gallery as its button does."""
    if job.state != "done" or job.task == "train":
        return thumbnail(address)
    video = escape(file_url(job.folder / VIDEO))
    return (
        f'<button type="button" class="i2v-frame i2v-job-video" data-act="open" data-id="{escape(job.id)}"'
        f' tabindex="-1" aria-hidden="true" data-video="{video}">{thumbnail(address)}</button>'
    )


def _state(job: JobStatus, seen: Seen, wish: str | None, now: float, locale: str) -> str:
    parts = [f"<b>{_say(f'job_{job.state}', locale)}</b>"]
    when = times(job, now)
    if job.state in AT_WORK and job.steps and job.phase in ("denoise", "decode"):
        parts.append(_say("frame_of" if job.phase == "decode" else "step_of", locale, step=job.step, steps=job.steps))
    if job.state == "queued" and job.position:
        name = "job_position_next" if job.position == 1 else "job_position"
        parts.append(_say(name, locale, position=job.position))
    if job.state == "queued" and job.waits_for is not None:
        parts.append(escape(job.waits_for.render(locale)))
    if job.state == "paused" and job.step:
        parts.append(_say("job_paused_at", locale, step=job.step))
    if when.starts_in is not None:
        parts.append(_say("job_starts_in", locale, time=about(when.starts_in, locale)))
    if when.ends_in is not None:
        parts.append(_say("job_ends_in", locale, time=about(when.ends_in, locale)))
    if job.state not in LIVE and job.started is not None and job.ended is not None:
        parts.append(_say("job_took", locale, time=clock(seen.seconds or job.ended - job.started)))
    if wish and job.state in LIVE:
        parts.append(_say("job_cancelling" if wish == "cancel" else "job_pausing", locale))
    return " · ".join(parts)


def _buttons(job: JobStatus, places: Mapping[str, tuple[int, int]], wish: str | None, locale: str) -> str:
    place, of = places.get(job.id, (1, 1))
    if job.task == "train" and job.state == "done":  # what it made is on its own tab
        return ""
    idle = {"top": place == 1, "up": place == 1, "down": place == of, wish: True}
    return "".join(
        button(act, job, locale, disabled=idle.get(act, False), sign=_SIGNS.get(act)) for act in ACTIONS[job.state]
    )


def button(act: str, job: JobStatus, locale: str, *, disabled: bool = False, sign: str | None = None) -> str:
    """A button of the list. Its name for a screen reader says which job it is for; `sign` is what is seen instead of
    its word."""
    word = _say(f"act_{act}", locale)
    name = f"{word}: {escape(job.request.prompt[:80])}"
    return (
        f'<button type="button" class="i2v-act" data-act="{act}" data-id="{escape(job.id)}" aria-label="{name}" '
        f'title="{word}"{" disabled" if disabled else ""}>{sign or word}</button>'
    )


def about(seconds: float, locale: str) -> str:
    """A time to come in words, no finer than it is known."""
    if seconds < 100:
        return text("about_seconds", locale, seconds=max(5, round(seconds / 5) * 5))
    minutes = round(seconds / 60)
    if minutes < 100:
        return text("about_minutes", locale, minutes=minutes)
    return text("about_hours", locale, hours=minutes // 60, minutes=minutes % 60)


def _say(name: str, locale: str, /, **params: object) -> str:
    return escape(text(name, locale, **params))
