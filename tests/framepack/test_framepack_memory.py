"""What is said of FramePack's memory before a run is what runs hold, to the byte; no step waits for a card; and what it
takes does not grow with the sections."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from i2v.dryrun.runner import DryRunner, blocks_of
from i2v.families import SPECS
from i2v.families.framepack.model import FramePack, load
from i2v.families.framepack.skeleton import CONFIGS
from i2v.families.framepack_f1 import model as framepack_f1
from i2v.memory.lanes import EarlyLane
from i2v.memory.streaming import parted
from i2v.plan import Placement, Plan, everywhere
from i2v.planning.machine import Machine
from i2v.planning.planner import Planner
from i2v.planning.rates import host_rates
from i2v.request import GenerationRequest, Input
from i2v.units import GIB
from tests.late_lane import LateLane
from tests.planning.fake_card import watched
from tests.planning.phase_peaks import run
from tests.planning.real_runs import assert_same_bytes, bytes_of, follow

STAGED = Plan(places=everywhere("staged"), decode_frames=0)
PLANS = {"whole": Plan(decode_frames=0), "chunks": Plan(chunk_tokens=40, decode_frames=2)}
JOB = GenerationRequest(
    # As long a sentence as there can be: that is what a dry run has.
    model="small", task="i2v", prompt="water ripples and a lake " * 100, width=64, height=96, num_frames=73, fps=30,
    num_inference_steps=2, guidance_scale=10.0, seed=7, inputs=(Input("image", ""), Input("image", "", -1)),
)  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint(checkpoints: dict[str, Path]) -> Path:
    return checkpoints["framepack"]


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> FramePack:
    model = load(checkpoint, torch.float32)
    model.modules.load(model.modules)  # else the first phase would have all reading in it
    return model


@pytest.fixture(scope="module")
def dry(checkpoint: Path) -> DryRunner:
    return DryRunner("framepack", checkpoint, "float32")


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_fake_and_real_agree_to_the_byte(model, dry, plan):
    assert_same_bytes(dry.phases(JOB, plan), follow(model, JOB, plan, steps=2))


def test_the_other_kind_agrees_as_well(checkpoints):
    job = replace(JOB, inputs=JOB.inputs[:1])
    dry = DryRunner("framepack_f1", checkpoints["framepack_f1"], "float32")

    model = framepack_f1.load(checkpoints["framepack_f1"], torch.float32)
    model.modules.load(model.modules)
    assert_same_bytes(dry.phases(job, PLANS["chunks"]), follow(model, job, PLANS["chunks"], steps=2))


def test_every_section_holds_what_the_first_does(model, dry):
    """All steps of both sections against the two that a dry run makes."""
    plan = PLANS["chunks"]
    assert_same_bytes(dry.phases(JOB, plan), follow(model, JOB, plan, steps=4))


def test_shortcuts_change_nothing(checkpoint, dry):
    plan = PLANS["chunks"]
    long = DryRunner("framepack", checkpoint, "float32", shortcuts=False).phases(JOB, plan)
    quick = dry.phases(JOB, plan)
    assert bytes_of(quick) == bytes_of(long)
    assert [one.passes for one in quick] == [one.passes for one in long]


def test_streamed_is_resident_and_holds_what_was_said(model, dry):
    wanted, _ = run(model, JOB, Plan(device="simulated"))
    machine = Machine("simulated", host_rates(2), GIB, 64 * GIB, 64 * GIB)
    planner = Planner(machine, lambda request, plan: (dry.run(request, plan), True), spec=SPECS["framepack"])
    sizes = parted(model.transformer, model.blocks["transformer"](model.transformer)).sizes_bytes
    for kept, slots, lane in ((0, 2, LateLane), (sum(sizes) // 3, 1, EarlyLane)):
        places = (*everywhere("streamed"), Placement("transformer", "streamed", kept, slots))
        plan = Plan(device="simulated", places=places)
        latents, peaks = run(model, JOB, plan, lane)
        assert torch.equal(latents, wanted)
        assert peaks == {phase.name: phase.peak_bytes for phase in planner.forced(JOB, plan).phases}


def test_a_longer_video_takes_longer_and_hardly_more_memory(dry):
    machine = Machine("simulated", host_rates(2), GIB, 64 * GIB, 64 * GIB)
    planner = Planner(machine, lambda request, plan: (dry.run(request, plan), True), spec=SPECS["framepack"])
    short, long = (
        {phase.name: phase for phase in planner.forced(replace(JOB, num_frames=1 + 36 * count), STAGED).phases}
        for count in (2, 6)
    )
    assert long["denoise"].seconds == pytest.approx(3 * short["denoise"].seconds, rel=0.05)
    latents = 4 * SPECS["framepack"].latent_numbers(JOB.width, JOB.height, 36 * 4)
    assert long["denoise"].peak_bytes - short["denoise"].peak_bytes < 4 * latents


def test_a_card_takes_every_phase_and_waits_in_no_step(checkpoint):
    dry = DryRunner("framepack", checkpoint, "bfloat16")
    plan = Plan(device="cuda", precision="bfloat16", places=everywhere("streamed"), chunk_tokens=40)
    assert watched(dry, replace(JOB, width=32, height=48, num_frames=37), plan).waits == []


def test_every_large_layer_is_in_a_block():
    """What is in no block stays on the card: the words' embeddings, and little else."""
    model = DryRunner("framepack", CONFIGS, "bfloat16").model
    for name, modules in blocks_of(model).items():
        module = model.modules[name]
        parts = parted(module, modules)
        whole = parts.outside_bytes + sum(parts.sizes_bytes)
        embeddings = [part.weight for part in module.modules() if isinstance(part, torch.nn.Embedding)]
        assert parts.outside_bytes - sum(one.nbytes for one in embeddings) <= 0.03 * whole, name
        assert max(parts.sizes_bytes) <= whole / 10, name
