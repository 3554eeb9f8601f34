"""`python -m i2v train`: teach a model a motion from a folder of clips. It runs in a process of its own, which is asked
to stop after the step that it is in by Ctrl-C, and goes on from there when the same command is given again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import IO, Any

from i2v.cli.exits import Exit, exit_for
from i2v.cli.generate import naming_flag
from i2v.cli.interrupts import Interrupts
from i2v.cli.terminal import clock, gib
from i2v.hardware.probe import MemoryProbe
from i2v.jobs.asked.training import asked_training
from i2v.jobs.process.start import ROOT, worker_environment
from i2v.messages import Message, UserError, message
from i2v.planning.machine import machine_of
from i2v.settings.settings import Settings
from i2v.training.request import (
    LaidDown,
    NotTrained,
    Stepped,
    Trained,
    TrainingEvent,
    event_from_json,
    event_to_json,
)
from i2v.training.words import words_of

COMMAND = (sys.executable, "-m", "i2v.worker.training")
LINES = 20  # of progress for each tenth of the steps, at most


def train(values: Mapping[str, Any], settings: Settings, probe: MemoryProbe, *, as_json: bool, locale: str) -> Exit:
    """Train to the end, or until Ctrl-C. Raises UserError, naming the flag, for what cannot be."""
    reading = probe.read()
    try:
        training = asked_training(values, settings, reading)
    except UserError as error:
        raise naming_flag(error, values) from error
    plan = training.plan
    card = reading.gpu.uuid if reading.gpu is not None and plan.device == "cuda" else ""
    asked = {**training.to_json(), "machine": asdict(machine_of(reading, plan.device))}
    with Interrupts() as interrupts:
        process = subprocess.Popen(
            COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True, encoding="utf-8",
            env=worker_environment(card, os.environ), start_new_session=True,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            _send(process.stdin, asked)
            return _follow(process, interrupts, _View(as_json=as_json, locale=locale))
        except BaseException:
            process.kill()
            raise
        finally:
            process.stdin.close()
            process.wait()


def _follow(process: subprocess.Popen[str], interrupts: Interrupts, view: _View) -> Exit:
    """Show every event; how the last one ended it. The first Ctrl-C asks it to stop, the second leaves at once."""
    ending: TrainingEvent | None = None
    asked_to_stop = False
    assert process.stdin is not None
    assert process.stdout is not None
    while True:
        try:
            line = process.stdout.readline()
            if not line:
                break
            with interrupts.whole():
                event = event_from_json(json.loads(line))
                view.show(event)
                if isinstance(event, Trained | LaidDown | NotTrained):
                    ending = event
        except KeyboardInterrupt:
            if asked_to_stop:
                raise
            asked_to_stop = True
            view.say(message("training.stopping"))
            _send(process.stdin, {"stop": True})
    if isinstance(ending, Trained):
        return Exit.DONE
    if isinstance(ending, LaidDown):
        return Exit.CANCELLED
    if isinstance(ending, NotTrained):
        return exit_for(ending.message, Exit.FAILED)
    view.say(message("training.ended_early", code=process.wait()))
    return Exit.FAILED


def _send(to: IO[str], values: Mapping[str, Any]) -> None:
    to.write(json.dumps(values) + "\n")
    to.flush()


class _View:
    """Events as JSON lines on stdout; or for people on stderr, and the finished file's path on stdout."""

    def __init__(self, *, as_json: bool, locale: str) -> None:
        self._as_json, self._locale = as_json, locale

    def show(self, event: TrainingEvent) -> None:
        if self._as_json:
            print(json.dumps(event_to_json(event), ensure_ascii=False), flush=True)
        elif (text := told(event)) is not None:
            self.say(text)
        if isinstance(event, Trained) and not self._as_json:
            print(event.file, flush=True)

    def say(self, text: Message) -> None:
        print(text.render(self._locale), file=sys.stderr, flush=True)


def told(event: TrainingEvent) -> Message | None:
    """What the terminal shows of an event; None for a step between two that are shown."""
    match event:
        case NotTrained(text):
            return text
        case Stepped(step, steps):
            if step % max(1, steps // (10 * LINES)) and step != steps:
                return None
            return message(
                "training.stepped", step=step, steps=steps, loss=f"{event.loss:.5f}", pace=f"{event.seconds:.2f}",
                left=clock((steps - step) * event.seconds), peak_gib=gib(event.peak_bytes),
            )  # fmt: skip
        case LaidDown(step, steps):
            return message("training.laid_down", step=step, steps=steps)
        case Trained():
            return message("training.trained", steps=event.steps, file=event.file)
    return words_of(event)
