"""A training as a job of the worker: what it tells, as a job's events."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from i2v.engine.cancel import GenerationCancelled, GenerationPaused
from i2v.events import Done, Event, Noted, PhaseStarted, Resumed, StepFinished
from i2v.memory.errors import is_out_of_memory
from i2v.messages import UserError
from i2v.training.request import (
    Begun,
    ClipsPrepared,
    LaidDown,
    Stepped,
    Trained,
    TrainingEvent,
    TrainingPlan,
    TrainingRequest,
)
from i2v.training.words import words_of
from i2v.worker.training import completed, reason_of

Emit = Callable[[Event], None]

MEDIAN_OF = 20  # steps
SECONDS_BETWEEN_STEPS = 0.5  # told; of a training of many quick steps not every one is
SECONDS_BETWEEN_NOTES = 5.0  # of clips that are prepared


def train_job(training: dict[str, Any], emit: Emit, cancelled: Callable[[], bool], paused: Callable[[], bool]) -> None:
    """Train as `training` says, which is what `i2v.worker.training` takes; emits Done. Raises GenerationCancelled and
    GenerationPaused with the steps that are kept, UserError, OSError, or whatever else went wrong."""
    from i2v.training.train import train

    request, plan = TrainingRequest.from_json(training["request"]), TrainingPlan.from_json(training["plan"])
    telling = _Telling(emit)
    emit(PhaseStarted("load"))
    try:
        if training.get("machine"):
            plan = completed(request, plan, training, telling)
        done = train(request, plan, telling, lambda: cancelled() or paused())
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(reason_of(error).id) from error
    if not done:
        raise GenerationCancelled(telling.step) if cancelled() else GenerationPaused(telling.step)
    emit(Done(Path(request.file).name, time.monotonic() - telling.began, 0))


class _Telling:
    """Turns what a training tells into events of its job."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._seconds: list[float] = []
        self._told = float("-inf")
        self._noted = float("-inf")
        self._encoding = False
        self.step = 0
        self.began = time.monotonic()

    def __call__(self, event: TrainingEvent) -> None:
        match event:
            case ClipsPrepared(clips, total):
                self._prepared(event, last=clips == total)
            case Begun(step):
                self.step = step
                if step:
                    self._emit(Resumed(step))
                self._note(event)
                self._emit(PhaseStarted("denoise"))
            case Stepped():
                self._stepped(event)
            case LaidDown(step):
                self.step = step
            case Trained():
                pass
            case _:
                self._note(event)

    def _note(self, event: TrainingEvent) -> None:
        text = words_of(event)
        if text is not None:
            self._emit(Noted("info", text))

    def _prepared(self, event: ClipsPrepared, *, last: bool) -> None:
        if not self._encoding:
            self._encoding = True
            self._emit(PhaseStarted("encode"))
        if last or time.monotonic() - self._noted >= SECONDS_BETWEEN_NOTES:
            self._noted = time.monotonic()
            self._note(event)

    def _stepped(self, event: Stepped) -> None:
        self.step = event.step
        self._seconds = [*self._seconds[-MEDIAN_OF + 1 :], event.seconds]
        if event.step < event.steps and time.monotonic() - self._told < SECONDS_BETWEEN_STEPS:
            return
        self._told = time.monotonic()
        pace = median(self._seconds)
        left = (event.steps - event.step) * pace
        self._emit(StepFinished("denoise", event.step, event.steps, event.seconds, pace, left))
