"""The process that trains: one request on its stdin, events on its stdout, one JSON object per line.

    in   {"request": {...}, "plan": {...}, "recompute": ... or null, "machine": {...} or null}
    in   {"stop": true}      at any time: lay it down after the step that it is in
    out  an event of `training.request` per line; the last one says how it ended

With a machine the plan is completed for it by dry runs, unless the training has begun with another one before; without
one it is taken as it is. The end of its stdin asks it to stop as well, so that no training outlives whoever watches it.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from i2v.memory.errors import is_out_of_memory, named_line
from i2v.messages import Message, UserError, message
from i2v.planning.machine import Machine
from i2v.planning.rates import Rates
from i2v.training.request import (
    FORETOLD,
    PLAN,
    Foretold,
    NotTrained,
    TrainingEvent,
    TrainingPlan,
    TrainingRequest,
    event_to_json,
)
from i2v.whole_file import write_whole
from i2v.worker.life import take_stdin

log = logging.getLogger(__name__)


def main() -> int:
    """Train as asked; 0 when it is done or laid down, 1 when it failed."""
    commands = take_stdin()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no event
    stopped = threading.Event()
    asked = json.loads(commands.readline())
    threading.Thread(target=_listen, args=(commands, stopped), daemon=True).start()

    def report(event: TrainingEvent) -> None:
        answers.write(json.dumps(event_to_json(event), ensure_ascii=False) + "\n")
        answers.flush()

    try:
        run_training(asked, report, stopped.is_set)
    except Exception as error:
        log.exception("A training failed")
        report(NotTrained(_reason(error)))
        return 1
    return 0


def run_training(asked: Mapping[str, Any], report: Callable[[TrainingEvent], None], stop: Callable[[], bool]) -> bool:
    """Train what the first line on stdin `asked`; whether it is done, as `training.train.train` says and raises."""
    from i2v.training.train import train

    request, plan = TrainingRequest.from_json(asked["request"]), TrainingPlan.from_json(asked["plan"])
    if asked.get("machine"):
        plan = _completed(request, plan, asked, report)
    return train(request, plan, report, stop)


def _completed(
    request: TrainingRequest, plan: TrainingPlan, asked: Mapping[str, Any], report: Callable[[TrainingEvent], None]
) -> TrainingPlan:
    """`plan` with all that is left open decided for the machine; the one that this training began with, if it did.
    Raises UserError where nothing fits."""
    begun = Path(request.work) / PLAN
    decided = ("device", "precision", "optimizer")
    before = _plan_at(begun)
    if before is not None and all(getattr(before, name) == getattr(plan, name) for name in decided):
        return before
    from i2v.dryrun.training import DryTrainer
    from i2v.dryrun.training_plan import choose

    machine = Machine(**{**asked["machine"], "rates": Rates(**asked["machine"]["rates"])})
    dry = DryTrainer(request.family, Path(request.model_folder), plan.precision)
    bucket = request.width, request.height, request.num_frames
    found = choose(
        plan, request.batch, dry.blocks, machine, lambda one: dry.run(request, one, bucket), asked.get("recompute")
    )
    begun.parent.mkdir(parents=True, exist_ok=True)
    write_whole(begun, json.dumps({**found.plan.to_json(), FORETOLD: found.tensor_bytes}))
    report(Foretold(found.plan.to_json(), found.recompute, found.tensor_bytes, found.peak_bytes, found.step_seconds))
    return found.plan


def _plan_at(file: Path) -> TrainingPlan | None:
    try:
        return TrainingPlan.from_json(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _listen(commands: BinaryIO, stopped: threading.Event) -> None:
    for line in commands:
        if json.loads(line).get("stop"):
            break
    stopped.set()


def _reason(error: Exception) -> Message:
    """What a person is told of it."""
    if isinstance(error, UserError):
        return error.message
    if is_out_of_memory(error):
        return message("training.out_of_memory")
    if isinstance(error, OSError):
        return message("training.not_written", reason=error.strerror or str(error))
    return message("training.unexpected", error=named_line(error))


if __name__ == "__main__":
    sys.exit(main())
