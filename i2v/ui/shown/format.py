"""Numbers and events as the page writes them: pure functions from values to short texts."""

from __future__ import annotations

from i2v.events import (
    Cancelled,
    Done,
    Event,
    Failed,
    Healed,
    MemorySampled,
    Noted,
    Paused,
    PhaseFinished,
    Resumed,
    StateChanged,
    SteadinessMeasured,
    StepFinished,
    memory_line,
)
from i2v.messages import Message, catalogue, message
from i2v.ui.shown.view import JobView
from i2v.units import GIB
from i2v.video.steadiness_words import in_one_line


def gib(size_bytes: float | None, digits: int = 1) -> str:
    """A size in GiB without its unit, or a dash where it is not known."""
    return "–" if size_bytes is None else f"{size_bytes / GIB:.{digits}f}"


def clock(seconds: float) -> str:
    """A duration as m:ss, from an hour on h:mm:ss."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def takes(seconds: float) -> Message:
    """A duration that is predicted, in one unit, as exactly as a prediction can be read."""
    for unit, size, most in (("seconds", 1, 90), ("minutes", 60, 90), ("hours", 3600, 48)):
        if round(seconds / size) <= most:
            return message(f"ui.takes_{unit}", count=max(1, round(seconds / size)))
    return message("ui.takes_days", count=round(seconds / 86400))


def refusal(told: Message, locale: str) -> str:
    """Why something is refused, of a number in the form under the name that it has there."""
    name = f"ui.{told.params.get('name')}"
    word = {"whole": "must_be_whole", "number": "must_be"}.get(
        told.id.removeprefix("settings.bad_").removesuffix("_or_auto")
    )
    if not told.id.startswith("settings.bad_") or word is None or name not in catalogue(locale):
        return told.render(locale)
    limits = {limit: told.params[limit] for limit in ("low", "high")}
    return message(f"ui.{word}", name=message(name).render(locale), **limits).render(locale)


def speed(seconds_per_step: float) -> str:
    """Seconds a step with the digits that matter at that size."""
    return f"{seconds_per_step:.2f}" if seconds_per_step < 10 else f"{seconds_per_step:.0f}"


def status_parts(
    view: JobView,
    position: int | None,
    starts_in: float | None = None,
    held: bool = False,
    waits_for: Message | None = None,
) -> list[Message]:
    """The status line in parts: what runs, which step, how fast, how long still. A job that waits: its place, and
    the seconds until its turn where they are known, or that the queue is paused; or what else it `waits_for`."""
    run = view.progress
    if run.state == "queued":
        if waits_for is not None:
            parts = [message("ui.job_queued"), waits_for]
        elif not position:
            parts = [message("ui.state_queued")]
        elif position == 1:
            parts = [message("ui.state_queued_next")]
        else:
            parts = [message("ui.state_queued_at", before=position - 1)]
        if held:
            parts.append(message("ui.queue_is_paused"))
        elif starts_in:
            parts.append(message("ui.starts_in", time=clock(starts_in)))
        return parts
    if run.state == "paused":
        parts = [message("ui.state_paused")]
        return [*parts, message("ui.step_of", step=run.step, steps=run.steps)] if run.steps else parts
    if run.state == "done":
        return [message("ui.state_done", frames=view.frames, time=clock(view.seconds))]
    if run.state == "cancelled":
        return [message("ui.state_cancelled")]
    if run.state == "failed":
        return [message("ui.state_failed")]
    parts = [message(f"ui.phase_{run.phase}" if run.phase else "ui.state_starting")]
    made, total = run.counted
    if made and total:
        name = "ui.frame_of" if run.phase == "decode" else "ui.step_of"
        parts.append(message(name, step=made, steps=total))
        if run.phase == "denoise" and run.sections > 1:
            parts.append(message("ui.section_of", section=run.section, sections=run.sections))
        if run.phase == "denoise" and run.window:
            parts.append(message("ui.window_of", window=run.window, windows=run.windows))
        if run.phase == "denoise" and run.seconds_per_step:
            parts.append(message("ui.seconds_per_step", seconds=speed(run.seconds_per_step)))
        if run.seconds_left is not None:
            parts.append(message("ui.time_left", time=clock(run.seconds_left)))
    return parts


def log_line(event: Event, locale: str) -> str | None:
    """One line of the log for an event, or None for an event that the log leaves to the rest of the page."""
    match event:
        case StepFinished(phase="denoise"):
            return message("ui.log_step", step=event.index, steps=event.total, seconds=speed(event.seconds)).render(
                locale
            )
        case MemorySampled(phase="denoise"):
            return memory_line(event, " GiB")
        case PhaseFinished():
            name = message(f"ui.phase_{event.phase}").render(locale)
            part = f" ({event.detail})" if event.detail else ""
            return message("ui.log_phase", phase=name + part, seconds=f"{event.seconds:.2f}").render(locale)
        case Noted(level=level, message=text):
            return f"{message(f'ui.level_{level}').render(locale)} {text.render(locale)}"
        case Failed(message=text):
            return text.render(locale)
        case Cancelled(step=step):
            return message("ui.log_cancelled", step=step).render(locale)
        case Resumed(step=step):
            return message("ui.log_resumed", step=step).render(locale)
        case Healed(message=text):
            return f"{message('ui.level_warning').render(locale)} {text.render(locale)}"
        case Paused(step=step, message=text):
            paused = message("ui.log_paused", step=step).render(locale)
            return f"{paused} {text.render(locale)}" if text else paused
        case SteadinessMeasured(summary=summary):
            said = in_one_line(summary)
            return said.render(locale) if said else None
        case Done():
            return message("ui.state_done", frames=event.frames, time=clock(event.seconds)).render(locale)
        case StateChanged(state="queued"):
            return message("ui.state_queued").render(locale)
    return None


def log_text(view: JobView, locale: str, last: int = 400) -> str:
    """The log as lines, oldest first, at most the `last` ones."""
    lines = [line for line in (log_line(event, locale) for event in view.events) if line]
    return "\n".join(lines[-last:])
