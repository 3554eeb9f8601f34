"""The trainings as HTML: where each stands, its losses, its memory, what may be asked of it; and the clips that were
made while it trained. Pure functions; every text is escaped here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from i2v.jobs.job.record import JobStatus
from i2v.jobs.job.states import AT_WORK, LIVE
from i2v.jobs.job.training import TrainingSeen
from i2v.messages import message
from i2v.ui.gate.access import LOCAL
from i2v.ui.queue.rows import about, button
from i2v.ui.shown.format import clock, gib
from i2v.ui.shown.panels import file_url
from i2v.ui.texts import text
from i2v.ui.train.loss_chart import loss_chart

ACTIONS = {
    "queued": ("pause", "cancel"),
    "running": ("pause", "cancel"),
    "decoding": ("pause", "cancel"),
    "paused": ("resume", "cancel"),
    "failed": ("retry",),
    "cancelled": ("retry",),
}
"""What may be asked of a training, by its state; of a finished one, to use what was learned."""
NEWEST_CLIPS = 4


@dataclass(frozen=True)
class Training:
    """A training as the page shows it. `wish`: what it was asked to do after its step, "cancel" or "pause"."""

    job: JobStatus
    seen: TrainingSeen
    wish: str = ""


def training_list(trainings: Sequence[Training], locale: str) -> str:
    """The trainings in the order they are in, or what there will be."""
    if not trainings:
        return f'<div class="i2v-stage i2v-empty">{_say("empty", locale)}</div>'
    return f'<ul class="i2v-trainings">{"".join(_training(one, locale) for one in trainings)}</ul>'


def clips_panel(trainings: Sequence[Training], locale: str) -> str:
    """The newest clips that each training has made of its sentence, to be played."""
    parts = []
    for one in trainings:
        if not one.seen.clips:
            continue
        videos = "".join(
            f'<figure><video src="{escape(file_url(clip))}" controls loop muted playsinline preload="metadata"></video>'
            f"<figcaption>{escape(clip.stem)}</figcaption></figure>"
            for clip in one.seen.clips[-NEWEST_CLIPS:]
        )
        title = escape(message("training_page.clips_of", name=one.seen.name).render(locale))
        parts.append(f'<section class="i2v-training-clips"><h3>{title}</h3><div>{videos}</div></section>')
    return "".join(parts)


def _training(one: Training, locale: str) -> str:
    job, seen = one.job, one.seen
    percent = 100 * seen.step / max(seen.steps, 1)
    bar = (
        f'<div class="i2v-bar" role="progressbar" aria-label="{escape(seen.name)}" aria-valuemin="0"'
        f' aria-valuemax="100" aria-valuenow="{percent:.1f}"><div style="width:{percent:.1f}%"></div></div>'
    )
    error = f'<p class="i2v-job-error">{escape(job.error.render(locale))}</p>' if job.error is not None else ""
    told = [escape(job.request.model), *([] if job.owner == LOCAL else [_ui("job_owner", locale, owner=job.owner)])]
    chart = loss_chart(seen.losses, locale) if seen.losses or job.state in AT_WORK else ""
    return (
        f'<li class="i2v-training i2v-status {escape(job.state)}"><div class="i2v-training-head">'
        f'<div><h3>{escape(seen.name)}</h3><p class="i2v-job-facts">{" · ".join(told)}</p></div>'
        f'<div class="i2v-job-actions">{_buttons(one, locale)}</div></div>'
        f'<p class="i2v-job-state">{" · ".join(_state(one, locale))}</p>{bar}{error}'
        f"{_learned(one, locale)}{chart}{_memory(one, locale)}</li>"
    )


def _state(one: Training, locale: str) -> list[str]:
    job, seen = one.job, one.seen
    parts = [f"<b>{_ui(f'job_{job.state}', locale)}</b>"]
    if job.state in AT_WORK and not seen.step:
        parts.append(_say("preparing", locale))
    elif seen.step:
        parts.append(_ui("step_of", locale, step=seen.step, steps=seen.steps))
    if job.state == "queued" and job.position:
        name = "job_position_next" if job.position == 1 else "job_position"
        parts.append(_ui(name, locale, position=job.position))
    if job.state in AT_WORK and seen.seconds_left is not None:
        parts.append(_ui("job_ends_in", locale, time=about(seen.seconds_left, locale)))
    if job.state not in LIVE and job.started is not None and job.ended is not None:
        parts.append(_ui("job_took", locale, time=clock(job.ended - job.started)))
    if one.wish and job.state in LIVE:
        parts.append(_ui("job_cancelling" if one.wish == "cancel" else "job_pausing", locale))
    return parts


def _buttons(one: Training, locale: str) -> str:
    acts = ACTIONS.get(one.job.state, ())
    return "".join(button(act, one.job, locale, disabled=one.wish in ("cancel", act)) for act in acts)


def _learned(one: Training, locale: str) -> str:
    """The LoRA that came of it, and the button that puts it into the form of the Create tab."""
    if one.job.state != "done" or one.seen.file is None:
        return ""
    said = escape(message("training_page.learned", name=one.seen.name).render(locale))
    word = _say("use", locale)
    return (
        f'<div class="i2v-learned"><span>{said}</span><button type="button" class="i2v-act" data-act="use"'
        f' data-id="{escape(one.job.id)}" aria-label="{word}: {escape(one.seen.name)}">{word}</button></div>'
    )


def _memory(one: Training, locale: str) -> str:
    """The most that a step held on the card beside what was foretold; on a processor, which counts all that the process
    holds, that alone."""
    peak, foretold = one.seen.peak_bytes, one.seen.foretold_peak_bytes
    told = []
    if one.job.plan.device == "cpu":
        told += [message("training_page.peak_process", gib=gib(peak, 2))] if peak else []
    else:
        told += [message("training_page.peak", gib=gib(peak, 2))] if peak else []
        told += [message("training_page.foretold", gib=gib(foretold, 2))] if foretold else []
    return f'<p class="i2v-job-facts">{escape(" · ".join(one.render(locale) for one in told))}</p>' if told else ""


def _ui(name: str, locale: str, /, **params: object) -> str:
    return escape(text(name, locale, **params))


def _say(name: str, locale: str) -> str:
    return escape(message(f"training_page.{name}").render(locale))
