"""What HunyuanVideo at full size holds on a card without loss, what RAM it needs, and what streaming costs in time.

    python -m bench.hunyuan_memory

Computed from dry runs at full size, not measured. A row's card holds the context, the tensors of each phase, its
weights among them, what torch's allocator and cuDNN need beside them, and the margin that a plan leaves free. RAM is
what has to be free for one component at a time, whose weights are in memory (`kept`) or mapped from their files.
`slower` compares with a card on which everything stays. Writes bench/results/hunyuan_memory.json; exits 1 when a size
is beyond its limit.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from i2v.dryrun.runner import DryRunner
from i2v.families import SPECS
from i2v.plan import Plan, Prediction, everywhere
from i2v.planning.cost import predict
from i2v.planning.machine import HOST_BASELINE_BYTES, imagined_machine
from i2v.request import GenerationRequest

GIB = 2**30
MODEL = "hunyuan_video"
# Width, height, frames, what a run may need at most in GiB, and what others need.
CASES = ((1280, 720, 129, 5.2, 24), (960, 544, 97, 4.5, None), (512, 384, 129, 3.6, 6))
CARD, ENOUGH_GIB = "RTX 4090", 1000
MOST_SLOWER, MOST_RAM = 0.05, 1.1
RESULTS = Path(__file__).parent / "results" / "hunyuan_memory.json"


@dataclass(frozen=True)
class Row:
    """One size on one rung, all weights streamed. `phases_gib`: the card's bytes by phase, without
    the margin. `slower`: the share of time that streaming adds on CARD."""

    width: int
    height: int
    frames: int
    chunk_tokens: int
    decode_frames: int
    needs_gib: float
    phases_gib: dict[str, float]
    hours: float
    slower: float
    ram_kept_gib: float
    ram_from_files_gib: float


def row(dry: DryRunner, width: int, height: int, frames: int, rung: Mapping[str, int | str]) -> Row:
    """A text-to-video job of this size with the model's own steps and guidance."""
    defaults = SPECS[MODEL].defaults
    request = GenerationRequest(
        model=MODEL, prompt="", width=width, height=height, num_frames=frames, fps=defaults.fps,
        num_inference_steps=defaults.num_inference_steps, guidance_scale=defaults.guidance_scale, seed=0, task="t2v",
    )  # fmt: skip
    plan = Plan(device="cuda", precision="bfloat16", places=everywhere("streamed"), keep_loaded=False, **rung)
    found = dry.run(request, plan)
    machine = imagined_machine(CARD, ENOUGH_GIB * GIB, ENOUGH_GIB * GIB, ENOUGH_GIB * GIB)
    baseline = HOST_BASELINE_BYTES["cuda"]

    def told(plan: Plan, mapped: frozenset[str] = frozenset()) -> Prediction:
        return predict(found, request, plan, machine, mapped=mapped)

    streamed, resident = told(plan), told(replace(plan, places=everywhere("resident"), keep_loaded=True))
    small = imagined_machine(CARD, streamed.peak.peak_bytes, 0, 0)  # whose margin is that of a small card
    margin = predict(found, request, plan, small).margin_bytes
    return Row(
        width=width,
        height=height,
        frames=frames,
        chunk_tokens=plan.chunk_tokens,
        decode_frames=plan.decode_frames,
        needs_gib=round((streamed.peak.peak_bytes + margin) / GIB, 2),
        phases_gib={phase.name: round(phase.peak_bytes / GIB, 2) for phase in streamed.phases},
        hours=round(streamed.seconds / 3600, 2),
        slower=round(streamed.seconds / resident.seconds - 1, 4),
        ram_kept_gib=round((streamed.ram_peak_bytes - baseline) / GIB, 2),
        ram_from_files_gib=round((told(plan, frozenset(found.weights)).ram_peak_bytes - baseline) / GIB, 2),
    )


def beyond(rows: list[Row], largest_gib: float) -> list[str]:
    """What is not as it should be."""
    said = []
    for width, height, frames, limit_gib, _ in CASES:
        least = min((one for one in rows if (one.width, one.height, one.frames) == (width, height, frames)), key=needs)
        if least.needs_gib > limit_gib:
            said.append(f"{width}x{height}x{frames} needs {least.needs_gib} GiB, more than {limit_gib}")
        if least.ram_kept_gib > MOST_RAM * largest_gib:
            said.append(f"{width}x{height}x{frames} needs {least.ram_kept_gib} GiB of RAM")
        if (width, height) == (1280, 720) and least.slower > MOST_SLOWER:
            said.append(f"{width}x{height}x{frames} is {least.slower:.1%} slower for streaming")
    return said


def needs(row: Row) -> float:
    return row.needs_gib


def main() -> int:
    dry = DryRunner(MODEL, None, "bfloat16")
    rows = [row(dry, width, height, frames, rung) for width, height, frames, *_ in CASES for rung in SPECS[MODEL].rungs]
    for one in rows:
        print(asdict(one))
    told = {
        "weights_gib": {name: round(size / GIB, 2) for name, size in dry.weights_bytes.items()},
        "others_gib": {f"{width}x{height}x{frames}": others for width, height, frames, _, others in CASES},
        "rows": [asdict(one) for one in rows],
    }
    RESULTS.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    said = beyond(rows, max(told["weights_gib"].values()))
    print("\n".join(said) or "Every size is within its limit.")
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
