"""Real runs, metered as dry runs are: what those are held against."""

from __future__ import annotations

from i2v.dryrun.blocks import BlockWatch
from i2v.dryrun.runner import MeteredCard, blocks_of, following
from i2v.families.base import FamilyModel
from i2v.plan import Plan
from i2v.planning.known import PhaseRun
from i2v.request import GenerationRequest


def follow(model: FamilyModel, request: GenerationRequest, plan: Plan, *, steps: int) -> tuple[PhaseRun, ...]:
    """All phases of `model` on a metered card, with at most `steps` steps of denoising."""
    card = MeteredCard()
    card.watch = BlockWatch(card.tracker, model.modules, blocks_of(model))
    with following(model, card, request, plan) as run:
        return run.whole(steps)
