"""What a person is told of a training while it runs: the same in the terminal and in a job's notes. No torch here."""

from __future__ import annotations

from i2v.messages import Message, message
from i2v.training.request import Begun, ClipsPrepared, Foretold, Told, TrainingEvent, Validated
from i2v.units import GIB


def words_of(event: TrainingEvent) -> Message | None:
    """What is said of an event that is neither a step nor an end; None for these."""
    match event:
        case Told(text):
            return text
        case Foretold():
            return message(
                "training.foretold", peak_gib=f"{event.peak_bytes / GIB:.1f}", at_once=event.plan["micro_batch"],
                blocks=len(event.plan["recomputed"]), seconds=f"{event.step_seconds:.2f}",
            )  # fmt: skip
        case ClipsPrepared(clips, total):
            return message("training.prepared", clips=clips, total=total)
        case Begun(step, steps, clips, numbers):
            return message("training.begun", step=step, steps=steps, clips=clips, millions=f"{numbers / 1e6:.2f}")
        case Validated(step, file):
            return message("training.validated", step=step, file=file)
    return None
