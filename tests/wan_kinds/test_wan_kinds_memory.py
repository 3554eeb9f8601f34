"""What is said of the memory of every kind of Wan before a run is what runs hold, to the byte; no step waits for a
card."""

from __future__ import annotations

import importlib
from dataclasses import replace

import pytest
import torch

from i2v.dryrun.runner import DryRunner
from i2v.families import SPECS
from i2v.memory.lanes import EarlyLane
from i2v.memory.streaming import parted
from i2v.plan import Placement, Plan, everywhere
from i2v.planning.known import PHASES, Question
from i2v.planning.machine import Machine
from i2v.planning.planner import Planner
from i2v.planning.rates import host_rates
from i2v.units import GIB
from tests.late_lane import LateLane
from tests.planning.fake_card import watched
from tests.planning.phase_peaks import run
from tests.planning.real_runs import assert_same_bytes, bytes_of, follow

STAGED = Plan(places=everywhere("staged"))
PLANS = {"whole": Plan(), "chunks": replace(STAGED, chunk_tokens=20, decode_rows=5)}
STEPS = 8  # so many that each expert has three


@pytest.fixture(scope="module")
def model(checkpoint, family):
    model = importlib.import_module(f"i2v.families.{family}.model").load(checkpoint, torch.float32)
    model.modules.load(model.modules)  # else the first phase would have all reading in it
    return model


@pytest.fixture(scope="module")
def dry(checkpoint, family) -> DryRunner:
    return DryRunner(family, checkpoint, "float32")


@pytest.fixture(scope="module")
def asked(job):
    # As long sentences as there can be: that is what a dry run has.
    long = "water ripples and a lake " * 110
    # With two pictures and more frames than a dry run makes all of, blocks come to lie in 2.4 MiB more of segments.
    frames = 9 if len(job.inputs) > 1 else 13
    return replace(job, prompt=long, negative_prompt=long, num_frames=frames, num_inference_steps=STEPS)


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_fake_and_real_agree_to_the_byte(model, dry, asked, plan, family):
    found = dry.phases(asked, plan)
    assert_same_bytes(found, follow(model, asked, plan, steps=SPECS[family].steps_until_alike))
    assert bytes_of(dry.phases(asked, plan)) == bytes_of(found)
    assert [run.name for run in found if run.name.startswith("denoise")] == [*SPECS[family].denoise_steps(STEPS)]


def test_no_later_step_holds_more_than_was_said(model, dry, asked):
    """The third step of the scheduler looks at two before."""
    every = follow(model, asked, STAGED, steps=STEPS)
    assert [one.activations_bytes for one in dry.phases(asked, STAGED)] == [one.activations_bytes for one in every]


def test_what_is_found_is_of_any_number_of_steps(dry, asked):
    few = dry.run(replace(asked, num_inference_steps=1), STAGED)
    assert bytes_of(few.phases) == bytes_of(dry.run(asked, STAGED).phases)


def test_knobs_are_all_that_a_phase_depends_on(dry, asked, family):
    for phase in PHASES:
        otherwise = {"cfg": "split", "chunk_frames": 2, "chunk_pixels": 300, "decode_frames": 4, "chunk_tokens": 33}
        otherwise["decode_rows"] = 7
        for name in SPECS[family].knobs.get(phase, ()):
            del otherwise[name]
        changed = replace(STAGED, **otherwise)
        assert Question.of(family, asked, changed, phase) == Question.of(family, asked, STAGED, phase)
        one, other = (bytes_of(dry.run(asked, plan, (phase,)).phases) for plan in (changed, STAGED))
        assert one == other


def test_streamed_is_resident_and_holds_what_was_said(model, dry, asked, family):
    wanted, _ = run(model, asked, Plan(device="simulated", chunk_tokens=40))
    machine = Machine("simulated", host_rates(2), GIB, 64 * GIB, 64 * GIB)
    planner = Planner(
        machine, lambda request, plan: (dry.run(request, plan), True), spec=SPECS[family],
        calls=SPECS[family].denoise_steps,
    )  # fmt: skip
    network = model.modules["transformer"]
    sizes = parted(network, model.blocks["transformer"](network)).sizes_bytes
    for kept, slots, lane in ((0, 2, LateLane), (sum(sizes) // 3, 1, EarlyLane)):
        names = [name for (name,) in model.denoise_stages.values()]
        places = (*everywhere("streamed"), *(Placement(name, "streamed", kept, slots) for name in names))
        plan = Plan(device="simulated", places=places, chunk_tokens=40)
        latents, peaks = run(model, asked, plan, lane)
        assert torch.equal(latents, wanted)
        assert peaks == {phase.name: phase.peak_bytes for phase in planner.forced(asked, plan).phases}


def test_a_card_takes_every_phase_and_waits_in_no_step(checkpoint, job, family, kind):
    if kind not in ("wan_i2v", "wan22_5b from a picture"):
        pytest.skip("its operations are those of one of these or of text-to-video")
    dry = DryRunner(family, checkpoint, "bfloat16")
    plan = Plan(device="cuda", precision="bfloat16", places=everywhere("streamed"), chunk_tokens=100)
    assert watched(dry, replace(job, num_frames=5, num_inference_steps=2), plan).waits == []
