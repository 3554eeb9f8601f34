"""What the large models hold on a card at full size, without loss; and what three cards make of them.

    python -m bench.families

Computed from dry runs at full size in half precision, not measured. `needs_gib` is the least that has to be free: the
context, the tensors of each phase, its weights among them, what torch's allocator and cuDNN need beside them, and the
margin that a plan leaves free, all networks streamed. For each card of CARDS, with RAM_GIB of free RAM and an NVMe
disk: the plan that is chosen, its time, and what holds it back. Writes bench/results/families.json; exits 1 when a size
is beyond its limit. Two minutes for each model.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path

from bench.whole_job import whole_job
from i2v.dryrun.runner import DryRunner
from i2v.families import SPECS
from i2v.models.mapped import mapped_components
from i2v.plan import Plan, Precision, everywhere
from i2v.planning.cost import predict
from i2v.planning.known import Found
from i2v.planning.limits import limit
from i2v.planning.machine import Machine, imagined_machine
from i2v.planning.overview import FREE_SHARE
from i2v.planning.planner import Planned, Planner
from i2v.planning.rates import find_card
from i2v.request import GenerationRequest, Task
from i2v.units import GIB

PRECISION: Precision = "bfloat16"
CARDS = ("RTX 3060", "RTX 4060 Ti", "RTX 4090")
RAM_GIB, ENOUGH_GIB = 64, 1000
RESULTS = Path(__file__).parent / "results" / "families.json"


@dataclass(frozen=True)
class Case:
    """A model at a size; the most that it may need, in GiB, and what others need for it where somebody has said so."""

    family: str
    task: Task
    width: int
    height: int
    frames: int
    limit_gib: float
    others_gib: str = ""

    @property
    def request(self) -> GenerationRequest:
        return whole_job(self.family, self.task, self.width, self.height, self.frames)


CASES = (
    Case("wan_14b", "t2v", 832, 480, 81, 4.0, "12"),
    Case("wan_14b", "t2v", 1280, 720, 81, 6.4, "18"),
    Case("wan_i2v", "i2v", 832, 480, 81, 4.0, "12"),
    Case("wan_i2v", "i2v", 1280, 720, 81, 6.4, "18"),
    Case("wan22_i2v", "i2v", 832, 480, 81, 4.0, "12"),
    Case("wan22_i2v", "i2v", 1280, 720, 81, 6.4, "18"),
    Case("wan22_5b", "i2v", 1280, 704, 121, 5.5),
    Case("ltx", "i2v", 1216, 704, 121, 4.4),
    Case("ltx_13b", "i2v", 1216, 704, 121, 4.4),
    Case("ltx2", "i2v", 1280, 768, 121, 8.0),
    Case("hunyuan_video_15_i2v", "i2v", 848, 480, 121, 5.0),
    Case("hunyuan_video_15_i2v", "i2v", 1280, 720, 121, 6.0),
    Case("minimax_h3", "i2v", 864, 480, 124, 8.0, "8 to 12"),
)


@dataclass(frozen=True)
class OnCard:
    """The plan for one card with FREE_SHARE of its memory free."""

    card: str
    free_gib: float
    verdict: str
    offload: str
    peak_gib: float
    minutes: float
    held_back_by: str
    read_again_gib: float


@dataclass(frozen=True)
class Row:
    """A case: the least that has to be free on the card by phase, and RAM while its largest network is in memory."""

    case: Case
    needs_gib: float
    phases_gib: Mapping[str, float]
    ram_gib: float
    cards: tuple[OnCard, ...]


def row(case: Case, dry: DryRunner) -> Row:
    """What dry runs of every rung find."""
    request, spec = case.request, SPECS[case.family]

    @cache
    def found_with(**knobs: int) -> Found:
        return dry.run(request, Plan(device="cuda", precision=PRECISION, places=everywhere("staged"), **knobs))

    def source(_request: GenerationRequest, plan: Plan) -> tuple[Found, bool]:
        names = {name for names in spec.knobs.values() for name in names}
        return found_with(**{name: getattr(plan, name) for name in sorted(names)}), True

    streamed = Plan(device="cuda", precision=PRECISION, places=everywhere("streamed"), keep_loaded=False)
    enough = imagined_machine(CARDS[-1], ENOUGH_GIB * GIB, ENOUGH_GIB * GIB, ENOUGH_GIB * GIB)
    told = []
    for rung in spec.rungs:
        plan = replace(streamed, **rung)
        found, _ = source(request, plan)
        prediction = predict(found, request, plan, enough)
        small = imagined_machine(CARDS[-1], prediction.peak.peak_bytes, 0, 0)  # whose margin is that of a small card
        told.append((prediction.peak.peak_bytes + predict(found, request, plan, small).margin_bytes, prediction))
    needs, least = min(told, key=lambda one: one[0])
    return Row(
        case,
        round(needs / GIB, 2),
        {phase.name: round(phase.peak_bytes / GIB, 2) for phase in least.phases},
        round(least.ram_peak_bytes / GIB, 1),
        tuple(on_card(name, case, source) for name in CARDS),
    )


def on_card(name: str, case: Case, source: Callable[[GenerationRequest, Plan], tuple[Found, bool]]) -> OnCard:
    """What the planner chooses there."""
    card, spec = find_card(name), SPECS[case.family]
    free = int(card.memory_bytes * FREE_SHARE)
    mapped = partial(mapped_components, None, spec)

    def planned_on(machine: Machine) -> Planned:
        planner = Planner(machine, source, spec=spec, mapped=mapped, calls=spec.denoise_steps)
        planned = planner.plan(case.request, Plan(device="cuda", precision=PRECISION), look_around=False)
        assert planned is not None
        return planned

    machine = imagined_machine(name, free, RAM_GIB * GIB, ENOUGH_GIB * GIB)
    planned = planned_on(machine)

    def seconds_on(other: Machine) -> float:
        found, exact = source(case.request, planned.plan)
        return predict(
            found, case.request, planned.plan, other, exact=exact, mapped=mapped(PRECISION),
            calls=spec.denoise_steps(case.request.num_inference_steps),
        ).seconds  # fmt: skip

    prediction = planned.prediction
    return OnCard(
        name, round(free / GIB, 1), prediction.verdict, planned.plan.offload,
        round(prediction.peak.peak_bytes / GIB, 2), round(prediction.seconds / 60, 1),
        limit(machine, seconds_on) or "", round(prediction.read_again_bytes / GIB, 1),
    )  # fmt: skip


def main() -> int:
    rows, beyond = [], []
    dry: dict[str, DryRunner] = {}
    for case in CASES:
        dry = dry if case.family in dry else {case.family: DryRunner(case.family, None, PRECISION)}
        one = row(case, dry[case.family])
        rows.append(one)
        print(json.dumps(asdict(one)), flush=True)
        if one.needs_gib > case.limit_gib:
            beyond.append(f"{case.family} {case.width}x{case.height}x{case.frames} needs {one.needs_gib} GiB, ")
            beyond[-1] += f"more than {case.limit_gib}"
    told = {"ram_gib": RAM_GIB, "rows": [asdict(one) for one in rows]}
    RESULTS.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    print("\n".join(beyond) or "Every size is within its limit.")
    return 1 if beyond else 0


if __name__ == "__main__":
    sys.exit(main())
