"""What is said of LTX-2 in two stages before a run is what it holds in each, to the byte."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from i2v.dryrun.runner import DryRunner
from i2v.families.denoising import UPSAMPLE
from i2v.families.ltx2.model import Ltx2, load
from i2v.families.ltx2.skeleton import CONFIGS
from i2v.families.ltx2.spec import SPEC
from i2v.families.ltx2.stages import FULL, HALF
from i2v.plan import Plan, everywhere
from i2v.planning.known import PHASES, Question
from i2v.planning.machine import Machine
from i2v.planning.planner import Planner
from i2v.planning.rates import host_rates
from i2v.units import GIB
from tests.ltx2_checkpoints import JOB, add_upsampler, build_ltx2
from tests.planning.fake_card import watched
from tests.planning.phase_peaks import run
from tests.planning.real_runs import assert_same_bytes, bytes_of, follow

STAGED = Plan(places=everywhere("staged"))
PLANS = {"whole": Plan(), "staged": STAGED, "chunks": Plan(chunk_tokens=17, decode_rows=1)}
LONG = "water ripples and a lake " * 220  # as long as there can be: that is what a dry run has
TWO = replace(
    JOB, width=128, height=192, num_inference_steps=2, prompt=LONG, negative_prompt=LONG, two_stages=True,
)  # fmt: skip
STAGES = [HALF, UPSAMPLE, FULL]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return add_upsampler(build_ltx2(tmp_path_factory.mktemp("models") / "two", "2.3"), "2.3")


@pytest.fixture(scope="module")
def model(checkpoint) -> Ltx2:
    model = load(checkpoint, torch.float32)
    model.modules.load(model.modules)  # else the first phase would have all reading in it
    return model


@pytest.fixture(scope="module")
def dry(checkpoint) -> DryRunner:
    return DryRunner("ltx2", checkpoint, "float32")


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_fake_and_real_agree_to_the_byte_in_every_stage(model, dry, plan):
    found = dry.phases(TWO, plan)
    assert [one.name for one in found] == ["text", "picture", *STAGES, "decode"]
    assert_same_bytes(found, follow(model, TWO, plan, steps=2))


def test_phases_are_found_one_by_one_as_in_a_whole_run(dry):
    whole = {one.name: one for one in dry.phases(TWO, STAGED)}
    for phase in PHASES:
        for one in dry.run(TWO, STAGED, (phase,)).phases:
            assert (one.components, one.activations_bytes) == (
                whole[one.name].components,
                whole[one.name].activations_bytes,
            )


@pytest.mark.parametrize("phase", PHASES)
def test_two_stages_are_a_question_of_their_own(dry, phase):
    one = replace(TWO, two_stages=None)
    alike = bytes_of(dry.run(one, STAGED, (phase,)).phases) == bytes_of(dry.run(TWO, STAGED, (phase,)).phases)
    assert alike == (Question.of("ltx2", one, STAGED, phase) == Question.of("ltx2", TWO, STAGED, phase))


def test_what_makes_larger_counts_only_where_it_is_needed(dry):
    assert "latent_upsampler" in dry.run(TWO, STAGED).weights
    found = dry.run(replace(TWO, two_stages=None), STAGED)
    assert "latent_upsampler" not in found.weights
    adapted = dry.run(TWO, STAGED).with_adapters(1000)
    assert dict(adapted.added) == {"transformer": 1000}


@pytest.mark.parametrize("places", ["resident", "staged", "streamed"])
@pytest.mark.parametrize("stages", [True, None], ids=["two", "one"])
def test_a_run_holds_what_was_said(model, dry, places, stages):
    machine = Machine("simulated", host_rates(2), GIB, 64 * GIB, 64 * GIB)
    planner = Planner(machine, lambda request, plan: (dry.run(request, plan), True), calls=SPEC.denoise_steps)
    plan = Plan(device="simulated", places=everywhere(places), chunk_tokens=40)
    request = replace(TWO, two_stages=stages)
    _, peaks = run(model, request, plan)
    assert peaks == {phase.name: phase.peak_bytes for phase in planner.forced(request, plan).phases}


def test_time_is_foretold_of_every_stage(dry):
    """Twice as many steps asked for are twice as many of the first stage, and no more of the others."""
    machine = Machine("simulated", host_rates(2), GIB, 64 * GIB, 64 * GIB)
    planner = Planner(machine, lambda request, plan: (dry.run(request, plan), True), calls=SPEC.denoise_steps)

    def seconds(steps: int) -> dict[str, float]:
        found = planner.forced(replace(TWO, num_inference_steps=steps), STAGED)
        return {phase.name: phase.seconds for phase in found.phases}

    few, many = seconds(20), seconds(40)
    assert many[HALF] == pytest.approx(2 * few[HALF], rel=0.05)
    assert (many[UPSAMPLE], many[FULL]) == (few[UPSAMPLE], few[FULL])


def test_a_card_waits_in_no_step(checkpoint):
    dry = DryRunner("ltx2", checkpoint, "bfloat16")
    plan = Plan(device="cuda", precision="bfloat16", places=everywhere("resident"), chunk_tokens=33)
    assert watched(dry, replace(TWO, num_frames=9, guidance_scale=1.0), plan).waits == []


# At 768x1280 in bfloat16, 121 frames: the most that a part of denoising may hold beside weights, with what cuDNN holds,
# and with those that do not stream.
LIMITS = {HALF: 2.6, UPSAMPLE: 2.6, FULL: 2.8}


def test_full_size_fits():
    full = DryRunner("ltx2", CONFIGS, "bfloat16")
    request = replace(JOB, width=1280, height=768, num_frames=121, two_stages=True)
    plan = Plan(precision="bfloat16", chunk_tokens=1024, decode_rows=1)
    found = full.run(request, plan, ("denoise",))
    for phase in found.phases:
        weights = sum(
            found.blocks[name].outside + 2 * max(found.blocks[name].sizes)
            if name in found.blocks
            else found.weights[name]
            for name in phase.components
        )
        held = weights + phase.activations_bytes + phase.cudnn_bytes
        print(phase.name, weights / GIB, phase.activations_bytes / GIB, phase.cudnn_bytes / GIB)
        assert held / GIB <= LIMITS[phase.name], phase.name
