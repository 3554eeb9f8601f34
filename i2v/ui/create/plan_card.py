"""The plan card as HTML: the verdict in colour and words, each phase's memory against what is free, time, and why."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from i2v.jobs.asked.outlook import SLOW_SECONDS
from i2v.jobs.asked.plans import Gain
from i2v.messages import Message, message
from i2v.plan import PhasePrediction, Prediction
from i2v.planning.planner import Planned
from i2v.planning.why import phase_name, shortages, why
from i2v.ui.shown.folded import SMALL_SHARE, folded
from i2v.ui.shown.format import gib, refusal, takes
from i2v.ui.texts import text

SMALL_MODEL = "nano"
"""The model that is made for processors."""

PARTS = (
    ("weights", lambda phase: phase.weights_bytes),
    ("activations", lambda phase: phase.activations_bytes),
    ("workspace", lambda phase: phase.workspace_bytes),
)


def is_slow(planned: Planned) -> bool:
    """Whether a job fits and takes very long all the same."""
    return planned.prediction.verdict == "fits" and planned.prediction.seconds > SLOW_SECONDS


def wants_card(planned: Planned) -> bool:
    """Whether a job is that slow because the processor computes it, and its model is not the one made for that."""
    return is_slow(planned) and planned.plan.device == "cpu" and planned.request.model != SMALL_MODEL


def plan_card(planned: Planned, gains: Sequence[Gain], locale: str, small_seconds: float | None = None) -> str:
    """The card for a planned job. `small_seconds`: what SMALL_MODEL would take, where the job `wants_card`."""
    prediction = planned.prediction
    verdict, said = prediction.verdict, message(f"ui.plan_{prediction.verdict}")
    if is_slow(planned):
        verdict, said = "slow", message("ui.plan_slow")
        if wants_card(planned) and small_seconds is not None:
            said = message("ui.plan_slow_without_card", time=takes(small_seconds).render(locale))
    digits = 1 if prediction.verdict == "fits" else 2  # where it is close, each hundredth counts
    parts = [
        _say(said, locale),
        *(_say(reason, locale) for reason in shortages(planned)),
        _say(message("ui.plan_peak", peak=gib(prediction.peak.peak_bytes, digits),
                     budget=gib(prediction.budget_bytes, digits)), locale),
        _say(takes(prediction.seconds), locale),
        _say(message("ui.plan_lossless" if planned.plan.lossless else "ui.plan_lossy"), locale),
    ]  # fmt: skip
    line = f"<strong>{parts[0]}</strong> · {' · '.join(parts[1:])}"
    reasons = [*why(planned), *(_gain(gain) for gain in gains)]
    listed = "".join(f"<li>{_say(reason, locale)}</li>" for reason in reasons)
    summary = _say(message("ui.plan_why"), locale)
    return (
        f'<div class="i2v-plan {verdict}">'
        f'<div class="i2v-verdict">{line}</div>{_brief(planned, parts[0], locale)}{_memory(prediction, locale)}'
        f"<details><summary>{summary}</summary><ul>{listed}</ul></details></div>"
    )


def _brief(planned: Planned, verdict: str, locale: str) -> str:
    """Verdict, time and length in one line, which a telephone shows with its buttons. It says nothing that the card
    does not say, so that it is not read aloud again."""
    job = planned.request
    length = text("seconds_value", locale, seconds=f"{job.num_frames / job.fps:.3g}")
    told = text("plan_brief_length", locale, width=job.width, height=job.height, length=length)
    parts = (_say(takes(planned.prediction.seconds), locale), escape(told))
    return f'<div class="i2v-brief" aria-hidden="true"><b>{verdict}</b> · {" · ".join(parts)}</div>'


def planning(locale: str) -> str:
    """The card while nothing is known yet."""
    return no_plan(message("ui.plan_working"), locale)


def no_plan(reason: Message, locale: str) -> str:
    """The card for a form that no plan can be made for."""
    told = escape(refusal(reason, locale))
    brief = f'<div class="i2v-brief" aria-hidden="true">{told}</div>'
    return f'<div class="i2v-plan unknown"><div class="i2v-verdict">{told}</div>{brief}</div>'


def _memory(prediction: Prediction, locale: str) -> str:
    """The bars; folded where the peak is far below what is free."""
    bars = _bars(prediction, locale)
    if prediction.peak.peak_bytes >= SMALL_SHARE * prediction.budget_bytes:
        return bars
    return folded(message("ui.plan_memory").render(locale), bars, "plan-memory")


def _bars(prediction: Prediction, locale: str) -> str:
    """One bar a phase, on a scale that holds the budget and the highest peak."""
    top = max(prediction.budget_bytes, prediction.peak.peak_bytes, 1)
    limit = 100 * prediction.budget_bytes / top
    seen = [phase for phase in prediction.phases if phase.name != "latents" or phase == prediction.peak]
    rows = "".join(_bar(phase, prediction.context_bytes, top, locale) for phase in seen)
    keys = "".join(
        f'<span class="i2v-key {name}">{_say(message(f"ui.plan_{name}"), locale)}</span>'
        for name in ("context", *(name for name, _ in PARTS))
    )
    budget = _say(message("ui.plan_budget", budget=gib(prediction.budget_bytes, 2)), locale)
    return (
        f'<div class="i2v-phases" style="--limit:{limit:.2f}%">{rows}</div>'
        f'<div class="i2v-keys">{keys}<span class="i2v-key limit">{budget}</span></div>'
    )


def _bar(phase: PhasePrediction, context_bytes: int, top: int, locale: str) -> str:
    sizes = [("context", context_bytes), *((name, size(phase)) for name, size in PARTS)]
    pieces = "".join(f'<i class="{name}" style="width:{100 * size / top:.2f}%"></i>' for name, size in sizes)
    name, peak = _say(phase_name(phase.name), locale), gib(phase.peak_bytes, 2)
    return f'<div class="i2v-phase"><span>{name}</span><b>{pieces}</b><span>{peak}</span></div>'


def _gain(gain: Gain) -> Message:
    if gain.seconds is None:
        return message("ui.plan_gain_fits", name=gain.name, gib=gib(gain.size_bytes))
    return message("ui.plan_gain", name=gain.name, gib=gib(gain.size_bytes), seconds=round(gain.seconds))


def _say(text: Message, locale: str) -> str:
    return escape(text.render(locale))
