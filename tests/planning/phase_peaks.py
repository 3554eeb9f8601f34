"""Real runs of a model on a simulated card: what came of them, and the most bytes of each phase."""

from __future__ import annotations

import torch

from i2v.dryrun.runner import blank_inputs
from i2v.families.base import FamilyModel
from i2v.families.phases import Phases
from i2v.memory.card import SimulatedCard
from i2v.memory.lanes import EarlyLane
from i2v.plan import Plan
from i2v.request import GenerationRequest
from i2v.units import GIB


class PhaseCard(SimulatedCard):
    """Whose peak begins anew where a phase ends: what leaves belongs to the phase before."""

    def evict(self, module) -> None:
        super().evict(module)
        self.reset_peak()


def run(
    model: FamilyModel, request: GenerationRequest, plan: Plan, lane=EarlyLane
) -> tuple[torch.Tensor, dict[str, int]]:
    """The last latents, and the most bytes of each phase."""
    card = PhaseCard(4 * GIB)
    card.lane = lane
    peaks: dict[str, int] = {}

    def note(name: str) -> None:
        peaks[name] = max(peaks.get(name, 0), card.read_memory().peak_allocated_bytes)
        card.reset_peak()

    with card.running():
        phases = Phases(model, card, request, plan)
        conditioning = {}
        for stage, made in phases.encode(blank_inputs(request)):
            conditioning |= made
            note(stage.name)
        for latents in phases.denoise(conditioning):
            last = card.to_host(latents)
            note(phases.stage)
        del latents
        card.reset_peak()
        for _ in phases.decode(conditioning, last):
            note("decode")
        card.evict_all()
    return last, peaks
