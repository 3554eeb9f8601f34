"""A training as a job of the worker: what it tells, as a job's events."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from i2v.engine.cancel import GenerationCancelled, GenerationPaused
from i2v.engine.pace import Pace
from i2v.events import Done, Event, Noted, PhaseStarted, Resumed
from i2v.memory.errors import is_out_of_memory
from i2v.messages import UserError
from i2v.training.request import (
    Begun,
    ClipsPrepared,
    LaidDown,
    Stepped,
    Trained,
    TrainingEvent,
)
from i2v.training.words import words_of
from i2v.worker.training import run_training

Emit = Callable[[Event], None]

SECONDS_BETWEEN_STEPS = 0.5  # told; of a training of many quick steps not every one is
SECONDS_BETWEEN_NOTES = 5.0  # of clips that are prepared


def train_job(training: dict[str, Any], emit: Emit, cancelled: Callable[[], bool], paused: Callable[[], bool]) -> None:
    """Train as `training` says, which is what `i2v.worker.training` takes; emits Done. Raises GenerationCancelled and
    GenerationPaused with the steps that are kept, UserError, OSError, or whatever else went wrong."""
    telling = _Telling(emit)
    emit(PhaseStarted("load"))
    try:
        done = run_training(training, telling, lambda: cancelled() or paused())
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise UserError("training.out_of_memory") from error
    if not done:
        raise GenerationCancelled(telling.step) if cancelled() else GenerationPaused(telling.step)
    emit(Done(Path(training["request"]["file"]).name, time.monotonic() - telling.began, 0))


class _Telling:
    """Turns what a training tells into events of its job."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._pace: Pace | None = None
        self._told = float("-inf")
        self._noted = float("-inf")
        self._encoding = False
        self.step = 0
        self.began = time.monotonic()

    def __call__(self, event: TrainingEvent) -> None:
        match event:
            case ClipsPrepared(clips, total):
                self._prepared(event, last=clips == total)
            case Begun(step, steps):
                self.step, self._pace = step, Pace("denoise", steps, step)
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
        assert self._pace is not None
        self.step, finished = event.step, self._pace.step()
        if event.step == event.steps or time.monotonic() - self._told >= SECONDS_BETWEEN_STEPS:
            self._told = time.monotonic()
            self._emit(finished)
