"""Whole runs of small HunyuanVideo checkpoints, under every kind of plan, and how far results are apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import Tensor

from i2v.engine.checkpoint import LATENTS
from i2v.engine.engine import Engine
from i2v.engine.orders import Orders
from i2v.events import Event
from i2v.memory.card import HostCard, SimulatedCard
from i2v.models.entry import ModelEntry
from i2v.plan import Plan, everywhere
from i2v.request import GenerationRequest
from i2v.units import GIB
from tests.latents import load_latents

SIMULATED = Plan(device="simulated", memory_cap_bytes=GIB)
PLANS = {
    "resident": Plan(),
    "chunks": Plan(chunk_tokens=33),
    "staged": replace(SIMULATED, places=everywhere("staged"), chunk_tokens=100),
    "streamed": replace(SIMULATED, places=everywhere("streamed"), chunk_tokens=64),
    "sparing RAM": replace(SIMULATED, places=everywhere("streamed"), keep_loaded=False),
}


def relative(ours: Tensor, theirs: Tensor) -> float:
    return ((ours.float() - theirs.float()).norm() / theirs.float().norm()).item()


class Runs:
    """Runs of a small checkpoint, each in a folder of its own."""

    def __init__(self, family: str, checkpoint: Path, jobs: Path) -> None:
        self.entry = ModelEntry("small", family, "small", checkpoint, None, True, 0, None)
        self.jobs = jobs
        self.engine = Engine(lambda plan: HostCard() if plan.device == "cpu" else SimulatedCard(GIB))

    def __call__(self, request: GenerationRequest, plan: Plan, name: str = "job", **orders) -> list[Event]:
        (self.jobs / name).mkdir(exist_ok=True)
        events: list[Event] = []
        self.engine.run(
            request, plan, entry=self.entry, job_folder=self.jobs / name, emit=events.append,
            cancelled=lambda: False, orders=Orders(**orders),
        )  # fmt: skip
        return events

    def latents(self, name: str = "job") -> Tensor:
        return load_latents(self.jobs / name / LATENTS)
