"""What the page knows of one job: what its events add up to, and of them what it shows. Without any effect."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from i2v.events import Done, Event, MemorySampled, PreviewReady
from i2v.job_progress import JobProgress

# How much of the bar each phase fills. Denoising is nearly all of the time; the rest must still be seen to move.
_BAR = {"load": (0.0, 0.04), "encode": (0.04, 0.08), "denoise": (0.08, 0.88), "decode": (0.88, 1.0)}


@dataclass(frozen=True)
class JobView:
    """A job as far as its events have told. `revision` counts them, `last` is the number of the last; `seconds` is the
    whole run's time. `bar`: how full it is, 0 to 1."""

    progress: JobProgress = field(default_factory=JobProgress)
    samples: tuple[MemorySampled, ...] = ()
    preview: str | None = None
    preview_step: int = 0
    preview_phase: str = ""
    video: str | None = None
    seconds: float = 0.0
    frames: int = 0
    events: tuple[Event, ...] = ()
    bar: float = 0.0
    revision: int = 0
    last: int = -1

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
    is paused. `others`: somebody else's job, which is not for them to see, is at work. `waits_for`: what the job waits
    for beside its turn, in words."""

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
    waits_for: str = ""


def advance(view: JobView, event: Event, number: int | None = None) -> JobView:
    """The view after one more event, whose number is the next where none is given. The bar never goes back within a
    run; a job queued again starts it anew."""
    number = view.last + 1 if number is None else number
    progress = view.progress.after(event)
    if progress.state == "done":
        bar = 1.0
    elif progress.state == "queued":
        bar = 0.0
    else:
        bar = max(view.bar, _bar(progress))
    events = (*view.events, event)
    view = replace(view, progress=progress, bar=bar, events=events, revision=view.revision + 1, last=number)
    return _shown(view, event)


def _shown(view: JobView, event: Event) -> JobView:
    """The view with what `event` gives to look at."""
    match event:
        case MemorySampled():
            return replace(view, samples=(*view.samples, event))
        case PreviewReady(step=step, path=path):
            return replace(view, preview=path, preview_step=step, preview_phase=view.progress.phase)
        case Done(path=path, seconds=seconds, frames=frames):
            return replace(view, video=path, seconds=seconds, frames=frames)
    return view


def _bar(progress: JobProgress) -> float:
    low, high = _BAR.get(progress.phase, (0.0, 0.0))
    made, total = progress.counted
    done = made + progress.part_of_step
    return low + (high - low) * (min(1.0, done / total) if total else 0.0)
