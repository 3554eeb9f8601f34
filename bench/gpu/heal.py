"""Suite `heal`: a second process takes the card's memory in the middle of a run, and the run goes on with less.

The engine's own loop runs the job three times: undisturbed, and with memory taken after a step of denoising and after
the first decoded frames. Frames are kept as they come instead of made into a video, so they are compared as they are.
What torch has cached is given back first: it would be the process's own else, and nothing be taken away.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bench.gpu.contenders import relative_difference
from bench.gpu.holder import Holder
from bench.gpu.i2vgen import plan_json
from bench.gpu.record import Clock, Record, Row
from bench.gpu.suite import Bench
from i2v.engine.checkpoint import LATENTS
from i2v.engine.engine import Engine
from i2v.engine.orders import Orders
from i2v.events import Event, Healed, StepFinished
from i2v.families.i2vgen_xl.model import I2VGenXL
from i2v.memory.card import Card, SimulatedCard
from i2v.models.entry import ModelEntry
from i2v.plan import Plan, Rung
from i2v.planning.known import engine_phase
from i2v.planning.planner import Planned
from i2v.request import first_image
from tests.latents import load_latents

MIB = 2**20
# What is left free: too little for the next step or frames, but enough for smaller ones once the weights leave that
# they do not need.
LEFT_BYTES = {"denoise": 256 * MIB, "decode": 64 * MIB}
SMALL_LEFT_BYTES = {"denoise": 3 * MIB, "decode": MIB // 4}
STEPS, STOLEN_AFTER = 5, {"denoise": 2, "decode": 2}
RUN_SECONDS = 30


class ReadyEngine(Engine):
    """The engine with its model at hand, which is on no disk."""

    def __init__(self, model: I2VGenXL, card: Card) -> None:
        super().__init__(lambda plan: card)
        self._model = model

    def _open(self, entry: ModelEntry, plan: Plan) -> I2VGenXL:
        return self._model


class FrameKeeper:
    """Stands where the video writer does."""

    kept: list[np.ndarray]

    def __init__(self, *_: Any, **__: Any) -> None:
        type(self).kept = []

    def __enter__(self) -> FrameKeeper:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""

    def write(self, frame: np.ndarray) -> None:
        """Keep a frame."""
        type(self).kept.append(frame.copy())

    @property
    def frames(self) -> int:
        """How many were kept."""
        return len(self.kept)


def suite(bench: Bench, record: Record, clock: Clock) -> None:
    """Undisturbed, then robbed in each phase. Raises OutOfTime."""
    precision, size = bench.scale.precisions[0], bench.scale.sizes[0]
    if all(record.has(phase) for phase in STOLEN_AFTER):
        return
    model = bench.model(precision, clock)
    machine = bench.rig.machine(None, bench.measurement(clock))
    planned = bench.dry.plan(machine, bench.scale.job(size, STEPS), bench.rig.base_plan(precision))
    bench.need(clock, RUN_SECONDS)
    whole, frames, events = _generate(bench, model, size, planned, None, None)
    record.put("undisturbed", {"healed": _rungs(events), "plan": plan_json(planned.plan), "error": ""})
    with Holder(bench.rig.device) as holder:
        for phase in STOLEN_AFTER:
            bench.need(clock, RUN_SECONDS)
            latents, others, events = _generate(bench, model, size, planned, phase, holder)
            told: Row = {"phase": phase, "healed": _rungs(events), "error": ""}
            told |= {"steps_made": sum(_is_step(event, "denoise") for event in events)}
            told |= {"steps": STEPS, "frames": len(others)}
            told |= {"latents_difference": relative_difference(latents, whole)}
            told |= {"frames_largest_difference": _largest(others, frames)}
            record.put(phase, told)
            off = f"latents off by {told['latents_difference']:.2g}"
            print(f"memory taken in {phase}: {len(told['healed'])} rungs, {off}", flush=True)


def _generate(
    bench: Bench,
    model: I2VGenXL,
    size: tuple[int, int, int],
    planned: Planned,
    robbed: str | None,
    holder: Holder | None,
) -> tuple[Tensor, list[np.ndarray], list[Event]]:
    """Latents, frames and events of one run, robbed by `holder` in the phase `robbed`."""
    events: list[Event] = []
    job = replace(bench.scale.job(size, STEPS), inputs=first_image("input.png"))
    with tempfile.TemporaryDirectory() as temporary, bench.rig.card() as card, _frames_kept():
        folder = Path(temporary)
        Image.linear_gradient("L").convert("RGB").resize(size[:2]).save(folder / "input.png")
        (folder / "model").mkdir()
        entry = ModelEntry("random", "i2vgen_xl", "random", folder / "model", None, True, 0, None)

        def emit(event: Event) -> None:
            events.append(event)
            if holder is None or robbed is None or not _is_step(event, robbed):
                return
            if sum(_is_step(one, robbed) for one in events) == STOLEN_AFTER[robbed]:
                _rob(card, holder, (SMALL_LEFT_BYTES if bench.scale.small else LEFT_BYTES)[robbed])

        try:
            ReadyEngine(model, card).run(
                job, planned.plan, entry=entry, job_folder=folder, emit=emit, cancelled=lambda: False,
                orders=Orders(ladder=rungs_of(planned)),
            )  # fmt: skip
        finally:
            if holder:
                holder.free()
        return load_latents(folder / LATENTS), FrameKeeper.kept, events


def _is_step(event: Event, phase: str) -> bool:
    return isinstance(event, StepFinished) and event.phase == phase


def _rob(card: Card, holder: Holder, left_bytes: int) -> None:
    """Have the other process take what is free, but so much."""
    card.release_cache()
    if isinstance(card, SimulatedCard):
        # The other process holds memory of the host; the simulated card becomes as much smaller.
        holder.take(MIB)
        card.capacity_bytes = card.read_memory().allocated_bytes + left_bytes
    else:
        holder.leave(left_bytes)


@contextmanager
def _frames_kept() -> Iterator[None]:
    with patch("i2v.engine.run.VideoWriter", FrameKeeper):
        yield


def rungs_of(planned: Planned) -> tuple[Rung, ...]:
    """The plan and those below it, as the engine takes them: what each of its phases is predicted to hold."""
    rungs = []
    for plan, prediction in ((planned.plan, planned.prediction), *((o.plan, o.prediction) for o in planned.ladder)):
        peaks: dict[str, int] = {}
        for phase in prediction.phases:
            name = engine_phase(phase.name)
            peaks[name] = max(peaks.get(name, 0), phase.peak_bytes)
        rungs.append(Rung(plan, peaks))
    return tuple(rungs)


def _rungs(events: list[Event]) -> list[Row]:
    """The rungs that were taken."""
    healed = [event for event in events if isinstance(event, Healed)]
    return [{"phase": e.phase, "step": e.step, "plan": plan_json(Plan.from_json(dict(e.plan)))} for e in healed]


def _largest(one: list[np.ndarray], other: list[np.ndarray]) -> int | None:
    """The largest difference of any value, of 255; None where the number of frames differs."""
    if len(one) != len(other):
        return None
    pairs = zip(one, other, strict=True)
    return max(int(torch.tensor(a).int().sub(torch.tensor(b).int()).abs().max()) for a, b in pairs)
