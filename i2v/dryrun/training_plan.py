"""How a training will run on a machine: which blocks are computed again, and how many examples go at once. Of the ways
that fit, the fastest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from i2v.dryrun.training import BlockCost, TrainingFound
from i2v.messages import UserError
from i2v.plan import Plan
from i2v.planning.cost import margin, seconds
from i2v.planning.machine import Machine
from i2v.training.request import RECOMPUTES, Recompute, TrainingPlan
from i2v.units import GIB

MOST_TIME = 0.2
"""Of a step, that computing "some" blocks again may take: what is measured is a little more than what is counted."""

_ROUNDING = 1e-9
SURELY = 0.6
"""Of what one example holds beside the weights, what another one adds at least: more than that are not even tried."""

Dry = Callable[[TrainingPlan], TrainingFound]
"""What a dry run of a plan finds."""


@dataclass(frozen=True)
class TrainingPrediction:
    """A plan with what it is foretold to hold and take: `peak_bytes` with everything, the context included, of which
    tensors are `tensor_bytes`."""

    plan: TrainingPlan
    recompute: Recompute
    tensor_bytes: int
    peak_bytes: int
    step_seconds: float


def choose(
    base: TrainingPlan, batch: int, blocks: int, machine: Machine, dry: Dry, wanted: Recompute | None = None
) -> TrainingPrediction:
    """The fastest plan for steps of `batch` examples of a network with so many `blocks` that fits on `machine`: as
    `base`, but for what is recomputed and how many examples go at once. `wanted`: what a person has decided of it.

    Raises UserError where nothing fits."""
    budget = machine.budget_bytes - margin(machine) - machine.context_bytes - machine.workspace_bytes
    alone = dry(replace(base, micro_batch=1, recomputed=()))
    least: TrainingFound | None = None
    for recompute in RECOMPUTES if wanted is None else (wanted,):
        numbers = recomputed_blocks(recompute, alone, blocks, base, machine)
        one = replace(base, micro_batch=1, recomputed=numbers)
        found = alone if not numbers else dry(one)
        if least is None or found.peak_bytes < least.peak_bytes:
            least = found
        if found.peak_bytes > budget:
            continue
        for micro_batch in _divisors(batch):
            # What an example holds in the network it holds once more for each that goes at once.
            if found.weights_bytes + found.state_bytes + SURELY * micro_batch * found.activations_bytes > budget:
                continue
            plan = replace(one, micro_batch=micro_batch)
            more = found if micro_batch == 1 else dry(plan)
            if more.peak_bytes <= budget:
                return _prediction(plan, recompute, more, machine)
    assert least is not None
    raise UserError(
        "training.too_large",
        needed=f"{(least.peak_bytes + machine.budget_bytes - budget) / GIB:.2f}",
        free=f"{machine.budget_bytes / GIB:.2f}",
    )


def recomputed_blocks(
    recompute: Recompute, alone: TrainingFound, blocks: int, plan: TrainingPlan, machine: Machine
) -> tuple[int, ...]:
    """The numbers of the blocks that are computed again. "some": those that hold most for the time that they take, as
    long as all of them together add no more than MOST_TIME to a step."""
    if recompute == "none":
        return ()
    if recompute == "all":
        return tuple(range(blocks))
    left = MOST_TIME * seconds(alone.work, Plan(precision=plan.precision), machine)
    chosen = []
    for number in sorted(range(blocks), key=lambda one: -_worth(alone.blocks[one], plan, machine)):
        takes = alone.micro_batches * seconds(alone.blocks[number].work, Plan(precision=plan.precision), machine)
        if alone.blocks[number].kept_bytes and takes <= left * (1 + _ROUNDING):
            left -= takes
            chosen.append(number)
    return tuple(sorted(chosen))


def _prediction(plan: TrainingPlan, recompute: Recompute, found: TrainingFound, machine: Machine) -> TrainingPrediction:
    beside = machine.context_bytes + machine.workspace_bytes
    return TrainingPrediction(
        plan, recompute, found.peak_bytes, found.peak_bytes + beside, _seconds(found, plan, machine)
    )


def _seconds(found: TrainingFound, plan: TrainingPlan, machine: Machine) -> float:
    return seconds(found.work, Plan(precision=plan.precision), machine) * machine.slowdown


def _worth(block: BlockCost, plan: TrainingPlan, machine: Machine) -> float:
    return block.kept_bytes / max(1e-12, seconds(block.work, Plan(precision=plan.precision), machine))


def _divisors(batch: int) -> Iterator[int]:
    """From the largest to 1."""
    return (number for number in range(batch, 0, -1) if batch % number == 0)
