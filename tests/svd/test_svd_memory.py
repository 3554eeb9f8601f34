"""What is said of Stable Video Diffusion's memory before a run is what runs hold, to the byte; no step waits for a
card."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from i2v.dryrun.runner import DryRunner, blocks_of
from i2v.families import SPECS
from i2v.families.svd.model import Svd, load
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
from tests.svd_checkpoints import JOB

ASKED = replace(JOB, num_inference_steps=2)
STAGED = Plan(places=everywhere("staged"), cfg="split")
PLANS = {
    "whole": Plan(cfg="batch"),
    "staged": STAGED,
    "chunks": Plan(cfg="batch", chunk_frames=1, chunk_pixels=24, decode_frames=1),
}


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> Svd:
    model = load(checkpoint, torch.float32)
    model.modules.load(model.modules)  # else the first phase would have all reading in it
    return model


@pytest.fixture(scope="module")
def dry(checkpoint: Path) -> DryRunner:
    return DryRunner("svd", checkpoint, "float32")


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_fake_and_real_agree_to_the_byte(model, dry, plan):
    assert_same_bytes(dry.phases(ASKED, plan), follow(model, ASKED, plan, steps=2))


def test_shortcuts_change_nothing(checkpoint, dry):
    plan = PLANS["chunks"]
    long = DryRunner("svd", checkpoint, "float32", shortcuts=False).phases(ASKED, plan)
    for quick in (dry.phases(ASKED, plan) for _ in range(2)):
        assert bytes_of(quick) == bytes_of(long)
        for one, other in zip(quick, long, strict=True):
            assert one.work(3).curve == pytest.approx(other.work(3).curve, rel=1e-9)


@pytest.mark.parametrize("phase", PHASES)
def test_knobs_are_all_that_a_phase_depends_on(dry, phase):
    otherwise = {"cfg": "batch", "chunk_frames": 2, "chunk_pixels": 30, "decode_frames": 2, "chunk_tokens": 33,
                 "decode_rows": 2}  # fmt: skip
    for name in SPECS["svd"].knobs.get(phase, ()):
        other = replace(STAGED, **{name: otherwise.pop(name)})
        assert Question.of("svd", ASKED, other, phase) != Question.of("svd", ASKED, STAGED, phase)
    changed = replace(STAGED, **otherwise)
    assert Question.of("svd", ASKED, changed, phase) == Question.of("svd", ASKED, STAGED, phase)
    assert bytes_of(dry.run(ASKED, changed, (phase,)).phases) == bytes_of(dry.run(ASKED, STAGED, (phase,)).phases)


def test_streamed_is_resident_and_holds_what_was_said(model, dry):
    chunks = {"cfg": "split", "chunk_frames": 2, "chunk_pixels": 30, "decode_frames": 1}
    wanted, _ = run(model, ASKED, Plan(device="simulated", **chunks))
    machine = Machine("simulated", host_rates(2), GIB, 64 * GIB, 64 * GIB)
    planner = Planner(machine, lambda request, plan: (dry.run(request, plan), True))
    unet = model.modules["unet"]
    sizes = parted(unet, model.blocks["unet"](unet)).sizes_bytes
    for kept, slots, lane in ((0, 2, LateLane), (sum(sizes) // 3, 1, EarlyLane)):
        places = (*everywhere("streamed"), Placement("unet", "streamed", kept, slots))
        plan = Plan(device="simulated", places=places, **chunks)
        latents, peaks = run(model, ASKED, plan, lane)
        assert torch.equal(latents, wanted)
        assert peaks == {phase.name: phase.peak_bytes for phase in planner.forced(ASKED, plan).phases}


def test_a_card_takes_every_phase_and_waits_in_no_step(checkpoint):
    """Without guidance: its passes are the same again."""
    plan = Plan(device="cuda", precision="float16", places=everywhere("streamed"), chunk_frames=2, decode_frames=2)
    asked = replace(ASKED, num_frames=3, width=64, guidance_scale=1.0)
    assert watched(DryRunner("svd", checkpoint, "float16"), asked, plan).waits == []


@pytest.fixture(scope="module")
def full() -> DryRunner:
    """At full size."""
    return DryRunner("svd", None, "float16")


def test_every_large_layer_is_in_a_block(full):
    """What is in no block stays on the card."""
    for name, modules in blocks_of(full.model).items():
        parts = parted(full.model.modules[name], modules)
        whole = parts.outside_bytes + sum(parts.sizes_bytes)
        assert parts.outside_bytes <= 0.02 * whole, name
        assert max(parts.sizes_bytes) <= whole / 7, name


def test_full_size_fits(full):
    """25 frames of 576x1024; diffusers' decoder, of all of them as one clip, holds 28 GiB."""
    request = replace(JOB, width=1024, height=576, num_frames=25)
    plan = Plan(precision="float16", cfg="split", chunk_frames=2, chunk_pixels=2048, decode_frames=1)
    found = full.run(request, plan)
    held = {phase.name: (phase.activations_bytes + phase.cudnn_bytes) / GIB for phase in found.phases}
    for name, most in {"image": 0.1, "latents": 1.5, "denoise": 1.9, "decode": 6.5}.items():
        assert held[name] <= most, held
