"""Memory that runs out in a run of HunyuanVideo from a picture, at any phase and step: the run goes on to the same
latents, for both kinds of transformers."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from i2v.engine.healing import lowest
from i2v.families import SPECS
from i2v.plan import Plan
from i2v.request import GenerationRequest
from tests.faulty_cards import Faulty, FaultyInPhases
from tests.hunyuan_runs import FAULTS, FAULTY_PLANS, SIMULATED, Runs

SPEC = SPECS["hunyuan_video_i2v"]


@pytest.fixture(scope="module")
def run(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(SPEC.name, checkpoint, tmp_path_factory.mktemp("faults"))


@pytest.fixture
def asked(job: GenerationRequest) -> GenerationRequest:
    return replace(job, height=128, num_frames=5)


@pytest.mark.parametrize(("name", "plan"), FAULTY_PLANS.items(), ids=FAULTY_PLANS)
def test_faults_in_every_phase_and_step_of_one_run_heal(run: Runs, asked: GenerationRequest, name: str, plan: Plan):
    card = FaultyInPhases(lambda: run.events, FAULTS)
    assert run.heal(asked, plan, name, card) == list(FAULTS)
    assert card.left == []
    assert all(lowest(before, after) == after != before for before, after in itertools.pairwise([plan, *run.plans]))


def test_a_fault_at_any_moment_heals(run: Runs, asked: GenerationRequest):
    """Allocations of the whole run fail one in turn, from the first to the last."""
    _, allocations = run.unharmed(asked)
    phases = set()
    for at in {*range(0, allocations, allocations // 3), allocations - 1}:
        ((phase, _),) = run.heal(asked, SIMULATED, f"{at}", Faulty(at))
        phases.add(phase)
    assert phases == {"encode", "denoise", "decode"}
