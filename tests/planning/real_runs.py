"""Real runs, metered as dry runs are: what those are held against."""

from __future__ import annotations

import pytest

from i2v.dryrun.allocator import SMALL_SEGMENT
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


def bytes_of(runs: tuple[PhaseRun, ...]) -> list[tuple[object, ...]]:
    return [
        (run.name, run.components, run.activations_bytes, run.copies_bytes, run.work(2).transfer_bytes) for run in runs
    ]


def unused(runs: tuple[PhaseRun, ...]) -> list[int]:
    return [size for run in runs for size in (run.unused_bytes, run.unused_segments_bytes)]


def assert_same_bytes(found: tuple[PhaseRun, ...], ran: tuple[PhaseRun, ...]) -> None:
    """A dry run and a real one held the same. Where a dry run leaves out chunks of the middle, small blocks may come to
    lie in a segment more or fewer."""
    assert bytes_of(found) == bytes_of(ran)
    assert unused(found) == pytest.approx(unused(ran), abs=SMALL_SEGMENT)
