"""Memory that runs out in a run of HunyuanVideo, at any phase and step: the run goes on to the same latents. And a card
of just the smallest memory that was predicted."""

from __future__ import annotations

import itertools
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from i2v.engine.healing import lowest
from i2v.families import SPECS
from i2v.memory.card import SimulatedCard
from i2v.plan import Plan
from i2v.planning.planner import Planner, candidates
from i2v.request import GenerationRequest, Input
from i2v.units import GIB
from tests.faulty_cards import Faulty, FaultyInPhases
from tests.hunyuan_runs import FAULTS, FAULTY_PLANS, SIMULATED, Runs
from tests.planning.support import dry_source, simulated_machine
from tests.video_support import film

SPEC = SPECS["hunyuan_video"]


@pytest.fixture(scope="module")
def run(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    jobs = tmp_path_factory.mktemp("faults")
    film(jobs / "clip.mp4", rate="24", seconds=1)
    return Runs(SPEC.name, checkpoint, jobs)


@pytest.fixture(params=["t2v", "v2v"])
def asked(request: pytest.FixtureRequest, job: GenerationRequest) -> GenerationRequest:
    if request.param == "t2v":
        return job
    return replace(job, task="v2v", inputs=(Input("video", "../clip.mp4", None, 0.6),))


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A folder's, for this test alone."""
    return "".join(letter if letter.isalnum() else "-" for letter in request.node.name)


@pytest.mark.parametrize("plan", FAULTY_PLANS.values(), ids=FAULTY_PLANS)
def test_faults_in_every_phase_and_step_of_one_run_heal(run, asked, plan, name):
    card = FaultyInPhases(lambda: run.events, FAULTS)
    assert run.heal(asked, plan, name, card) == list(FAULTS)
    assert card.left == []
    plans = [plan, *run.plans]
    assert all(lowest(before, after) == after != before for before, after in itertools.pairwise(plans))


def test_a_fault_at_any_moment_heals(run, asked, name):
    """Allocations of the whole run fail one in turn, from the first to the last."""
    _, allocations = run.unharmed(asked)
    phases = set()
    for at in {*range(0, allocations, allocations // 4), allocations - 1}:
        (healed,) = run.heal(asked, SIMULATED, f"{name}-{at}", Faulty(at))
        phases.add(healed[0])
    assert phases == {"encode", "denoise", "decode"}


def test_denoising_goes_down_to_the_fewest_tokens_and_to_blocks_that_stream(run, asked, name):
    """Every rung of the family is taken, one fault after the other; where none is left, the run ends."""
    faults = [("denoise", 1)] * len(list(candidates(SIMULATED, (), SPEC.rungs)))
    with pytest.raises(torch.OutOfMemoryError):
        run(asked, SIMULATED, f"{name}-all", FaultyInPhases(lambda: run.events, faults))
    taken = run.plans
    assert [*dict.fromkeys(plan.chunk_tokens for plan in taken)] == [
        *dict.fromkeys(rung["chunk_tokens"] for rung in SPEC.rungs)
    ]
    assert {plan.offload for plan in taken} == {"staged", "streamed"}
    run.heal(asked, SIMULATED, f"{name}-last", FaultyInPhases(lambda: run.events, faults[: len(taken)]))
    assert run.plans == taken
    assert taken[-1].place("transformer").kept_bytes == 0


def test_a_card_of_the_smallest_predicted_peak_runs_it_and_one_byte_less_does_not(checkpoint, run, asked, name):
    # As long a sentence as there can be: that is what a dry run has. Chunks of which this size has several.
    asked = replace(asked, prompt="water ripples and a lake " * 100, num_inference_steps=2)
    spec = replace(SPEC, rungs=({"chunk_tokens": 0}, {"chunk_tokens": 64}))
    planner = Planner(simulated_machine(GIB), dry_source(SPEC.name, checkpoint), spec=spec)
    base = Plan(device="simulated")
    smallest = min(planner.forced(asked, plan).peak.peak_bytes for plan in candidates(base, (), spec.rungs))
    for card_bytes, fits in ((smallest, True), (smallest - 1, False)):
        planned = replace(planner, machine=simulated_machine(card_bytes)).plan(asked, base, look_around=False)
        assert (planned.prediction.verdict != "wont_fit") == fits
        with nullcontext() if fits else pytest.raises(torch.OutOfMemoryError):
            run(asked, planned.plan, f"{name}-{card_bytes}", SimulatedCard(card_bytes), heals=False)
