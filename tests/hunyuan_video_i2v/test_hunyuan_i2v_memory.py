"""What is said of the memory of HunyuanVideo from a picture before a run is what runs hold, to the byte; no step waits
for a card."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from i2v.dryrun.runner import DryRunner, blocks_of
from i2v.families.hunyuan_video_i2v.model import load
from i2v.families.hunyuan_video_i2v.skeleton import CONFIGS
from i2v.memory.lanes import EarlyLane
from i2v.memory.streaming import parted
from i2v.plan import Placement, Plan, everywhere
from i2v.planning.machine import Machine
from i2v.planning.planner import Planner
from i2v.planning.rates import host_rates
from i2v.units import GIB
from tests.late_lane import LateLane
from tests.planning.fake_card import watched
from tests.planning.phase_peaks import run
from tests.planning.real_runs import assert_same_bytes, bytes_of, follow

FAMILY = "hunyuan_video_i2v"
STAGED = Plan(places=everywhere("staged"))
PLANS = {"whole": Plan(), "chunks": replace(STAGED, chunk_tokens=40)}


@pytest.fixture(scope="module")
def model(checkpoint):
    model = load(checkpoint, torch.float32)
    model.modules.load(model.modules)  # else the first phase would have all reading in it
    return model


@pytest.fixture(scope="module")
def dry(checkpoint) -> DryRunner:
    return DryRunner(FAMILY, checkpoint, "float32")


@pytest.fixture
def asked(job):
    # As long a sentence as there can be: that is what a dry run has.
    return replace(job, prompt="water ripples and a lake " * 100, num_frames=5, num_inference_steps=2)


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_fake_and_real_agree_to_the_byte(model, dry, asked, plan):
    assert_same_bytes(dry.phases(asked, plan), follow(model, asked, plan, steps=2))


def test_shortcuts_change_nothing(checkpoint, dry, asked):
    plan = PLANS["chunks"]
    long = DryRunner(FAMILY, checkpoint, "float32", shortcuts=False).phases(asked, plan)
    for quick in (dry.phases(asked, plan) for _ in range(2)):
        assert bytes_of(quick) == bytes_of(long)
        assert [one.passes for one in quick] == [one.passes for one in long]


def test_streamed_is_resident_and_holds_what_was_said(model, dry, asked):
    wanted, _ = run(model, asked, Plan(device="simulated", chunk_tokens=40))
    machine = Machine("simulated", host_rates(2), GIB, 64 * GIB, 64 * GIB)
    planner = Planner(machine, lambda request, plan: (dry.run(request, plan), True))
    sizes = parted(model.transformer, model.blocks["transformer"](model.transformer)).sizes_bytes
    for kept, slots, lane in ((0, 2, LateLane), (sum(sizes) // 3, 1, EarlyLane)):
        places = (*everywhere("streamed"), Placement("transformer", "streamed", kept, slots))
        plan = Plan(device="simulated", places=places, chunk_tokens=40)
        latents, peaks = run(model, asked, plan, lane)
        assert torch.equal(latents, wanted)
        assert peaks == {phase.name: phase.peak_bytes for phase in planner.forced(asked, plan).phases}


@pytest.mark.parametrize("places", ["resident", "streamed"])
def test_a_card_takes_every_phase_and_waits_in_no_step(checkpoint, asked, places):
    dry = DryRunner(FAMILY, checkpoint, "bfloat16")
    plan = Plan(device="cuda", precision="bfloat16", places=everywhere(places), chunk_tokens=40)
    assert watched(dry, asked, plan).waits == []


def test_every_large_layer_is_in_a_block():
    """What is in no block stays on the card: the words' embeddings, and little else."""
    model = DryRunner(FAMILY, CONFIGS, "bfloat16").model
    for name, modules in blocks_of(model).items():
        module = model.modules[name]
        parts = parted(module, modules)
        whole = parts.outside_bytes + sum(parts.sizes_bytes)
        embeddings = [part.weight for part in module.modules() if isinstance(part, torch.nn.Embedding)]
        assert parts.outside_bytes - sum(one.nbytes for one in embeddings) <= 0.03 * whole, name
        assert max(parts.sizes_bytes) <= whole / 10, name
