"""What the page knows of one job: a fold over the job's events, without any effect."""

from __future__ import annotations

from dataclasses import dataclass, replace

from i2v.events import (
    FINAL_STATES,
    Cancelled,
    Done,
    Event,
    Failed,
    MemorySampled,
    PhaseFinished,
    PhaseStarted,
    PreviewReady,
    StateChanged,
    StepFinished,
)
from i2v.messages import Message

# How much of the bar each phase fills. Denoising is nearly all of the time; the rest must still be seen to move.
_BAR = {"load": (0.0, 0.04), "encode": (0.04, 0.08), "denoise": (0.08, 0.88), "decode": (0.88, 1.0)}


@dataclass(frozen=True)
class JobView:
    """A job as far as its events have told. `revision` counts them; `seconds` is the whole run's time."""

    state: str = "queued"
    phase: str = ""
    detail: str = ""
    step: int = 0
    steps: int = 0
    seconds_per_step: float = 0.0
    seconds_left: float | None = None
    samples: tuple[MemorySampled, ...] = ()
    preview: str | None = None
    preview_step: int = 0
    video: str | None = None
    seconds: float = 0.0
    frames: int = 0
    error: Message | None = None
    events: tuple[Event, ...] = ()
    progress: float = 0.0
    revision: int = 0

    @property
    def final(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in FINAL_STATES

    @property
    def stage(self) -> str:
        """What there is to look at: the video, a numbered preview, or nothing."""
        if self.video:
            return "video"
        return f"preview {self.preview_step}" if self.preview else ""


def advance(view: JobView, event: Event) -> JobView:
    """The view after one more event. The bar never goes back within a run; a job queued again starts it anew."""
    view = _told(view, event)
    if view.state == "done":
        progress = 1.0
    elif view.state == "queued":
        progress = 0.0
    else:
        progress = max(view.progress, _bar(view))
    return replace(view, progress=progress, events=(*view.events, event), revision=view.revision + 1)


def _told(view: JobView, event: Event) -> JobView:
    match event:
        case StateChanged(state=state):
            return replace(view, state=state)
        case PhaseStarted(phase=phase, detail=detail):
            return replace(view, phase=phase, detail=detail, step=0, steps=0, seconds_left=None)
        case PhaseFinished():
            return replace(view, detail="")
        case StepFinished():
            return replace(
                view,
                phase=event.phase,
                step=event.index,
                steps=event.total,
                seconds_per_step=event.seconds_per_step,
                seconds_left=event.seconds_left,
            )
        case MemorySampled():
            return replace(view, samples=(*view.samples, event))
        case PreviewReady(step=step, path=path):
            return replace(view, preview=path, preview_step=step)
        case Done(path=path, seconds=seconds, frames=frames):
            return replace(view, video=path, seconds=seconds, frames=frames, state="done")
        case Failed(message=text):
            return replace(view, error=text, state="failed")
        case Cancelled(step=step):
            return replace(view, step=step, state="cancelled")
    return view


def _bar(view: JobView) -> float:
    low, high = _BAR.get(view.phase, (0.0, 0.0))
    share = view.step / view.steps if view.steps else 0.0
    return low + (high - low) * share
