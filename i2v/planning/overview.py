"""The table of everything: which card runs which model at which size, how, and how long it takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial

from i2v.families import SPECS
from i2v.models.mapped import mapped_components
from i2v.plan import Plan
from i2v.planning.known import Known
from i2v.planning.machine import imagined_machine
from i2v.planning.planner import Planned, Planner, known_source
from i2v.planning.rates import known_cards
from i2v.request import GenerationRequest
from i2v.units import GIB

FREE_SHARE = 0.95  # of a card's memory, beside a desktop
RAM_BYTES, DISK_BYTES = 32 * GIB, 100 * GIB


@dataclass(frozen=True)
class Row:
    """One job on one card with 95 % of its memory free, in half precision, with the model's own steps and guidance."""

    model: str
    width: int
    height: int
    frames: int
    steps: int
    card: str
    free_gib: float
    verdict: str
    peak_gib: float
    seconds: float
    offload: str
    cfg: str
    chunk_frames: int
    chunk_pixels: int
    chunk_tokens: int

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def overview(known: Known) -> Iterator[Row]:
    """Every size of the table on every card of the data file."""
    for name, spec in SPECS.items():
        defaults = spec.defaults
        jobs = sorted({(q.width, q.height, q.frames) for q in known if q.model == name and q.precision == "half"})
        for width, height, frames in jobs:
            request = GenerationRequest(
                model=name, prompt="", width=width, height=height, num_frames=frames, fps=defaults.fps,
                num_inference_steps=defaults.num_inference_steps, guidance_scale=defaults.guidance_scale, seed=0,
                task=spec.usual_task,
            )  # fmt: skip
            for card in known_cards().values():
                free = int(card.memory_bytes * FREE_SHARE)
                machine = imagined_machine(card.name, free, RAM_BYTES, DISK_BYTES)
                mapped = partial(mapped_components, None, spec)
                planner = Planner(machine, known_source(known, name), spec=spec, mapped=mapped)
                planned = planner.plan(request, Plan(device="cuda", precision=spec.half), look_around=False)
                if planned is not None:
                    yield _row(request, card.name, free, planned)


def _row(request: GenerationRequest, card: str, free_bytes: int, planned: Planned) -> Row:
    plan, prediction = planned.plan, planned.prediction
    return Row(
        model=request.model,
        width=request.width,
        height=request.height,
        frames=request.num_frames,
        steps=request.num_inference_steps,
        card=card,
        free_gib=round(free_bytes / GIB, 2),
        verdict=prediction.verdict,
        peak_gib=round(prediction.peak.peak_bytes / GIB, 2),
        seconds=round(prediction.seconds),
        offload=plan.offload,
        cfg=plan.cfg,
        chunk_frames=plan.chunk_frames,
        chunk_pixels=plan.chunk_pixels,
        chunk_tokens=plan.chunk_tokens,
    )
