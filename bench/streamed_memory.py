"""What a whole run of I2VGen-XL holds on a card when its weights stream, without loss; and the fastest plan for 4 GiB.

    python -m bench.streamed_memory

Computed from the table of dry runs, not measured. Counted are the tensors of each phase, its weights among them, and
what torch's allocator needs beside them with expandable segments; the context of the card and the margin that a plan
leaves free are not. Writes bench/results/streamed_memory.json; exits 1 when a size is beyond its limit.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from i2v.families import SPECS
from i2v.plan import Plan, everywhere
from i2v.planning.cost import on_card_bytes
from i2v.planning.known import Known
from i2v.planning.machine import imagined_machine
from i2v.planning.planner import Planner, known_source
from i2v.request import GenerationRequest

GIB = 2**30
MODEL = "i2vgen_xl"
# Side in pixels, frames, and what a streamed run may hold at most, in GiB.
CASES = ((512, 16, 1.0), (768, 24, 1.8), (1024, 32, 3.2))
CARD, FREE_GIB, RAM_GIB, DISK_GIB = "RTX 3060", 4, 32, 100
RESULTS = Path(__file__).parent / "results" / "streamed_memory.json"


@dataclass(frozen=True)
class Row:
    """One line of the table: a size, the chunks of the UNet, and what a staged and a streamed run hold at most."""

    side: int
    frames: int
    chunk_frames: int
    chunk_pixels: int
    staged_gib: float
    streamed_gib: float


@dataclass(frozen=True)
class Fastest:
    """The plan for so much free memory. `kept_gib`: of the UNet's blocks, those that stay."""

    side: int
    frames: int
    free_gib: int
    verdict: str
    offload: str
    chunk_frames: int
    chunk_pixels: int
    kept_gib: float
    peak_gib: float
    seconds: int


def asked(side: int, frames: int) -> GenerationRequest:
    """The default job at this size."""
    return GenerationRequest(
        model=MODEL, prompt="", width=side, height=side, num_frames=frames, fps=8,
        num_inference_steps=50, guidance_scale=9.0, seed=0,
    )  # fmt: skip


def held_gib(known: Known, request: GenerationRequest, plan: Plan) -> float:
    """What the phase that holds most has of the card."""
    found = known.whole(MODEL, request, plan)
    assert found is not None, f"the table has no {request.width}x{request.height}x{request.num_frames}"
    machine = imagined_machine(CARD, None, RAM_GIB * GIB, DISK_GIB * GIB)
    phases = (
        run.activations_bytes
        + run.unused_bytes
        + sum(on_card_bytes(name, found, plan, machine) for name in run.components)
        for run in found.phases
    )
    return max(phases) / GIB


def rows(known: Known) -> list[Row]:
    """Every size with the chunks of every rung that has some."""
    made = []
    for side, frames, _ in CASES:
        for rung in SPECS[MODEL].rungs[2:]:
            plan = Plan(device="cuda", precision="float16", **rung)
            staged, streamed = (
                held_gib(known, asked(side, frames), replace(plan, places=everywhere(offload)))
                for offload in ("staged", "streamed")
            )
            made.append(Row(side, frames, plan.chunk_frames, plan.chunk_pixels, round(staged, 2), round(streamed, 2)))
    return made


def fastest(known: Known) -> list[Fastest]:
    """The planner's choice for `FREE_GIB` at every size."""
    machine = imagined_machine(CARD, FREE_GIB * GIB, RAM_GIB * GIB, DISK_GIB * GIB)
    planner = Planner(machine, known_source(known, MODEL), spec=SPECS[MODEL])
    made = []
    for side, frames, _ in CASES:
        planned = planner.plan(asked(side, frames), Plan(device="cuda", precision="float16"), look_around=False)
        assert planned is not None
        plan, prediction = planned.plan, planned.prediction
        made.append(
            Fastest(
                side, frames, FREE_GIB, prediction.verdict, plan.offload, plan.chunk_frames, plan.chunk_pixels,
                round(plan.place("unet").kept_bytes / GIB, 2), round(prediction.peak.peak_bytes / GIB, 2),
                round(prediction.seconds),
            )
        )  # fmt: skip
    return made


def main() -> int:
    known, beyond = Known(), []
    made, quickest = rows(known), fastest(known)
    for row in made:
        print(
            f"{row.side:>5}x{row.side:<4} {row.frames:>3} frames, chunks {row.chunk_frames} / {row.chunk_pixels:<4}: "
            f"staged {row.staged_gib:.2f} GiB, streamed {row.streamed_gib:.2f} GiB"
        )
    for side, frames, limit_gib in CASES:
        least = min(row.streamed_gib for row in made if (row.side, row.frames) == (side, frames))
        if least > limit_gib:
            beyond.append(f"{side}x{side}, {frames} frames: {least} GiB is more than {limit_gib}")
    for one in quickest:
        print(f"{FREE_GIB} GiB free: {asdict(one)}")
    told = {"rows": [asdict(row) for row in made], "fastest": [asdict(one) for one in quickest]}
    RESULTS.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    print("\n".join(beyond) or "Every size is within its limit.")
    return 1 if beyond else 0


if __name__ == "__main__":
    sys.exit(main())
