"""What the page knows of one job: a fold over the job's events, without any effect."""

from __future__ import annotations

from dataclasses import dataclass, replace

from i2v.events import (
    FINAL_STATES,
    Cancelled,
    Done,
    Event,
    Failed,
    Healed,
    MemorySampled,
    Paused,
    PhaseFinished,
    PhaseStarted,
    PreviewReady,
    Resumed,
    StateChanged,
    StepFinished,
)
from i2v.messages import Message

# How much of the bar each phase fills. Denoising is nearly all of the time; the rest must still be seen to move.
_BAR = {"load": (0.0, 0.04), "encode": (0.04, 0.08), "denoise": (0.08, 0.88), "decode": (0.88, 1.0)}


@dataclass(frozen=True)
class JobView:
    """A job as far as its events have told. `revision` counts them, `last` is the number of the last; `seconds` is the
    whole run's time. `step` of `steps` counts in `phase`; of the `total` denoising steps `kept` need not be made
    again. `note` is what a person should know of the run as it is now: why it was laid down, or how it healed."""

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
    preview_phase: str = ""
    video: str | None = None
    seconds: float = 0.0
    frames: int = 0
    error: Message | None = None
    note: Message | None = None
    kept: int = 0
    total: int = 0
    events: tuple[Event, ...] = ()
    progress: float = 0.0
    revision: int = 0
    last: int = -1

    @property
    def final(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in FINAL_STATES

    @property
    def stage(self) -> str:
        """What there is to look at: the video, a numbered preview, or nothing."""
        if self.video:
            return "video"
        return f"preview {self.preview_phase} {self.preview_step}" if self.preview else ""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What a browser tab shows of its job, so that a tick sends only what is new. `wish` is what was asked of the job
    and has not happened yet: "cancel", "pause" or nothing. `paused`: the job's button says that it goes on.
    `starts_in`: seconds, in tens. `waiting`: how many other jobs of the same person run or wait. `left`: the
    job shown before this one; a look at it that was on its way then comes too late. `held`: it waits because the queue
    is paused. `others`: somebody else's job, which is not for them to see, is at work."""

    job_id: str = ""
    revision: int = -1
    position: int = 0
    starts_in: int = 0
    stage: str = ""
    locale: str = ""
    wish: str = ""
    paused: bool = False
    waiting: int = 0
    left: str = ""
    held: bool = False
    others: bool = False


def advance(view: JobView, event: Event, number: int | None = None) -> JobView:
    """The view after one more event, whose number is the next where none is given. The bar never goes back within a
    run; a job queued again starts it anew."""
    number = view.last + 1 if number is None else number
    view = _told(view, event)
    if view.state == "done":
        progress = 1.0
    elif view.state == "queued":
        progress = 0.0
    else:
        progress = max(view.progress, _bar(view))
    events = (*view.events, event)
    return replace(view, progress=progress, events=events, revision=view.revision + 1, last=number)


def _told(view: JobView, event: Event) -> JobView:
    match event:
        case StateChanged(state="queued"):
            view = replace(view, phase="", detail="", step=0, steps=0, seconds_per_step=0.0, seconds_left=None)
            return replace(view, state="queued", note=None)
        case StateChanged(state=state):
            return replace(view, state=state)
        case PhaseStarted(phase="denoise", detail=detail):
            # A run that goes on begins where the one before had come to.
            steps = view.total if view.kept else 0
            return replace(view, phase="denoise", detail=detail, step=view.kept, steps=steps, seconds_left=None)
        case PhaseStarted(phase=phase, detail=detail):
            kept = 0 if phase == "load" else view.kept  # what was kept is told of when all is loaded
            return replace(view, phase=phase, detail=detail, step=0, steps=0, seconds_left=None, kept=kept)
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
                total=event.total if event.phase == "denoise" else view.total,
            )
        case MemorySampled():
            return replace(view, samples=(*view.samples, event))
        case PreviewReady(step=step, path=path):
            return replace(view, preview=path, preview_step=step, preview_phase=view.phase)
        case Done(path=path, seconds=seconds, frames=frames):
            return replace(view, video=path, seconds=seconds, frames=frames, state="done")
        case Failed(message=text):
            return replace(view, error=text, state="failed")
        case Cancelled(step=step):
            return replace(view, step=step, state="cancelled", note=None)
        case Resumed(step=step):
            return replace(view, kept=step)
        case Healed(message=text):
            return replace(view, note=text, kept=event.step)
        case Paused(step=step, message=text):
            return replace(view, state="paused", step=step, kept=step, note=text, seconds_left=None)
    return view


def _bar(view: JobView) -> float:
    low, high = _BAR.get(view.phase, (0.0, 0.0))
    share = view.step / view.steps if view.steps else 0.0
    return low + (high - low) * share
