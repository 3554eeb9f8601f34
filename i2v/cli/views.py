"""A job's events as the command line shows them: JSON lines, plain lines, or a progress bar.

Events as JSON go to stdout, for programs. Everything for people goes to stderr; stdout gets the finished video's
path, so that a script can take it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol, TextIO

from i2v.cli.terminal import StatusLine, bar, clock, gib
from i2v.events import (
    Cancelled,
    Done,
    Event,
    Failed,
    Healed,
    MemorySampled,
    Noted,
    Paused,
    PhaseStarted,
    Resumed,
    SteadinessMeasured,
    StepFinished,
    memory_line,
    to_json,
)
from i2v.messages import Message, message
from i2v.video.steadiness_words import in_one_line


class Watcher(Protocol):
    """Somebody watching a job from the command line."""

    def begin(self, job_id: str, folder: Path) -> None:
        """The job is in the queue."""
        ...

    def show(self, event: Event) -> None:
        """An event has come."""
        ...

    def say(self, text: Message) -> None:
        """Something to tell that is no event of the job."""
        ...

    def end(self, video: Path) -> None:
        """The job is done."""
        ...


class JsonView:
    """One JSON object per line on stdout: first `{"type": "job", "id", "folder"}`, then the events."""

    def __init__(self, out: TextIO, err: TextIO, locale: str) -> None:
        self._out, self._err, self._locale = out, err, locale

    def begin(self, job_id: str, folder: Path) -> None:
        self._write({"type": "job", "id": job_id, "folder": str(folder)})

    def show(self, event: Event) -> None:
        self._write(to_json(event))

    def say(self, text: Message) -> None:
        print(text.render(self._locale), file=self._err, flush=True)

    def end(self, video: Path) -> None:
        """The Done event said so already."""

    def _write(self, values: dict[str, Any]) -> None:
        print(json.dumps(values, ensure_ascii=False, allow_nan=False), file=self._out, flush=True)


class LinesView:
    """One line per event on stderr, for logs and pipes."""

    def __init__(self, out: TextIO, err: TextIO, locale: str) -> None:
        self._out, self._err, self._locale = out, err, locale
        self._told_source = False

    def begin(self, job_id: str, folder: Path) -> None:
        self.say(message("cli.job", id=job_id, folder=str(folder)))

    def show(self, event: Event) -> None:
        if isinstance(event, StepFinished):
            self._line(step_line(event, self._locale))
        elif isinstance(event, MemorySampled):
            if not self._told_source and event.source != "cuda":
                self._told_source = True
                self.say(message(f"cli.memory_of_{event.source}"))
            # The line people know counts denoising steps; in another phase it says which.
            self._line(memory_line(event) if event.phase == "denoise" else f"{memory_line(event)} ({event.phase})")
        elif text := told(event):
            self.say(text)

    def say(self, text: Message) -> None:
        self._line(text.render(self._locale))

    def end(self, video: Path) -> None:
        print(video, file=self._out, flush=True)

    def _line(self, text: str) -> None:
        print(text, file=self._err, flush=True)


class BarView(LinesView):
    """A progress bar on a terminal; what has to be told stands above it."""

    def __init__(self, out: TextIO, err: TextIO, locale: str) -> None:
        super().__init__(out, err, locale)
        self._status = StatusLine(err)
        self._memory = ""

    def show(self, event: Event) -> None:
        if isinstance(event, StepFinished):
            progress = f"{bar(event.index, event.total)} {step_line(event, self._locale)}"
            self._status.show(f"{progress} · {self._memory}" if self._memory else progress)
        elif isinstance(event, MemorySampled):
            self._memory = f"{gib(event.allocated_bytes)} GiB"
        elif isinstance(event, PhaseStarted):
            self._status.show(phase(event).render(self._locale))
        else:
            super().show(event)

    def end(self, video: Path) -> None:
        self._status.clear()
        super().end(video)

    def _line(self, text: str) -> None:
        self._status.clear()
        super()._line(text)


def step_line(event: StepFinished, locale: str) -> str:
    """`step 12 of 50 · 1.10 s/step · 0:42 left`, or frames while decoding; of a video in sections also which one."""
    in_sections = {"section": event.section, "sections": event.sections} if event.sections > 1 else {}
    step = "cli.step_in_section" if in_sections else "cli.step"
    return message(
        "cli.frame" if event.phase == "decode" else step,
        **in_sections,
        index=event.index,
        total=event.total,
        pace=f"{event.seconds_per_step:.2f}",
        left=clock(event.seconds_left),
    ).render(locale)


def phase(event: PhaseStarted) -> Message:
    """The phase's name, with its part where it has one."""
    if event.detail:
        return message(f"cli.phase_{event.phase}_part", part=event.detail)
    return message(f"cli.phase_{event.phase}")


def told(event: Event) -> Message | None:
    """What a line says about an event; None for those that need none."""
    match event:
        case PhaseStarted():
            return phase(event)
        case Noted(message=text) | Failed(message=text) | Healed(message=text):
            return text
        case Resumed(step=step):
            return message("cli.resumed", step=step)
        case Paused(message=text, step=step):
            return text or message("cli.paused", step=step)
        case Cancelled(step=step):
            return message("cli.cancelled", step=step)
        case SteadinessMeasured(summary=summary):
            return in_one_line(summary)
        case Done(seconds=seconds, frames=frames):
            return message("cli.done", frames=frames, time=clock(seconds))
    return None
