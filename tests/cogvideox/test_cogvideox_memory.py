"""What is said of CogVideoX's memory before a run is what runs hold, to the byte; no step waits for a card."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest
import torch

from i2v.dryrun.runner import DryRunner, blocks_of
from i2v.families import SPECS
from i2v.families.cogvideox.model import CogVideoX
from i2v.memory.lanes import EarlyLane
from i2v.memory.streaming import parted
from i2v.plan import Placement, Plan, everywhere
from i2v.planning.known import PHASES, Question
from i2v.planning.machine import Machine
from i2v.planning.planner import Planner
from i2v.planning.rates import host_rates
from i2v.request import GenerationRequest
from i2v.units import GIB
from tests.cogvideox_checkpoints import job_of
from tests.late_lane import LateLane
from tests.planning.fake_card import watched
from tests.planning.phase_peaks import run
from tests.planning.real_runs import assert_same_bytes, bytes_of, follow

STAGED = Plan(places=everywhere("staged"))
PLANS = {
    "whole": Plan(decode_frames=0), "staged": replace(STAGED, decode_frames=2),
    "chunks": Plan(chunk_tokens=17, decode_frames=1),
}  # fmt: skip


def only(*families: str) -> pytest.MarkDecorator:
    """Of these alone, which differ from the others in what is proved."""
    return pytest.mark.parametrize("family", families, indirect=True)


@pytest.fixture(scope="module")
def model(family: str, checkpoint: Path) -> CogVideoX:
    model = import_module(f"i2v.families.{family}.model").load(checkpoint, torch.float32)
    model.modules.load(model.modules)  # else the first phase would have all reading in it
    return model


@pytest.fixture(scope="module")
def dry(family: str, checkpoint: Path) -> DryRunner:
    return DryRunner(family, checkpoint, "float32")


@pytest.fixture
def asked(family: str) -> GenerationRequest:
    return job_of(family, num_inference_steps=2)


@only("cogvideox", "cogvideox_15_i2v")
@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_fake_and_real_agree_to_the_byte(model, dry, asked, plan):
    assert_same_bytes(dry.phases(asked, plan), follow(model, asked, plan, steps=2))


@only("cogvideox_5b", "cogvideox_15")
def test_they_agree_for_the_other_kinds(model, dry, asked):
    plan = PLANS["chunks"]
    assert_same_bytes(dry.phases(asked, plan), follow(model, asked, plan, steps=2))


@only("cogvideox_15_i2v")
def test_shortcuts_change_nothing(family, checkpoint, dry, asked):
    plan, asked = PLANS["chunks"], replace(asked, num_frames=49)  # with more batches than are sampled
    long = DryRunner(family, checkpoint, "float32", shortcuts=False).phases(asked, plan)
    for quick in (dry.phases(asked, plan) for _ in range(2)):
        assert bytes_of(quick) == bytes_of(long)
        assert [one.passes for one in quick] == [one.passes for one in long]
        for one, other in zip(quick, long, strict=True):
            assert one.work(3).curve == pytest.approx(other.work(3).curve, rel=1e-9)


@only("cogvideox_15_i2v")
@pytest.mark.parametrize("phase", PHASES)
def test_knobs_are_all_that_a_phase_depends_on(family, dry, asked, phase):
    otherwise = {"cfg": "split", "chunk_frames": 2, "chunk_pixels": 300, "decode_frames": 4, "chunk_tokens": 33,
                 "decode_rows": 2}  # fmt: skip
    for name in SPECS[family].knobs.get(phase, ()):
        other = replace(STAGED, **{name: otherwise.pop(name)})
        assert Question.of(family, asked, other, phase) != Question.of(family, asked, STAGED, phase)
    changed = replace(STAGED, **otherwise)
    assert Question.of(family, asked, changed, phase) == Question.of(family, asked, STAGED, phase)
    assert bytes_of(dry.run(asked, changed, (phase,)).phases) == bytes_of(dry.run(asked, STAGED, (phase,)).phases)


@only("cogvideox_15_i2v")
def test_streamed_is_resident_and_holds_what_was_said(model, dry, asked):
    """All networks that have blocks."""
    wanted, _ = run(model, asked, Plan(device="simulated", chunk_tokens=40))
    machine = Machine("simulated", host_rates(2), GIB, 64 * GIB, 64 * GIB)
    planner = Planner(machine, lambda request, plan: (dry.run(request, plan), True))
    transformer = model.modules["transformer"]
    sizes = parted(transformer, model.blocks["transformer"](transformer)).sizes_bytes
    for kept, slots, lane in ((0, 2, LateLane), (sum(sizes) // 3, 1, EarlyLane)):
        places = (*everywhere("streamed"), Placement("transformer", "streamed", kept, slots))
        plan = Plan(device="simulated", places=places, chunk_tokens=40)
        latents, peaks = run(model, asked, plan, lane)
        assert torch.equal(latents, wanted)
        assert peaks == {phase.name: phase.peak_bytes for phase in planner.forced(asked, plan).phases}


@only("cogvideox", "cogvideox_15_i2v")
def test_a_card_takes_every_phase_and_waits_in_no_step(family, checkpoint, asked):
    """Without guidance: its passes are the same again."""
    dry = DryRunner(family, checkpoint, "bfloat16")
    plan = Plan(device="cuda", precision="bfloat16", places=everywhere("streamed"), decode_frames=0)
    assert watched(dry, replace(asked, guidance_scale=1.0), plan).waits == []


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_skeleton_has_every_weight_in_the_precision_it_is_loaded_in(family, checkpoint, precision):
    loaded = import_module(f"i2v.families.{family}.model").load(checkpoint, getattr(torch, precision)).modules
    for name, made in DryRunner(family, checkpoint, precision).model.modules.items():
        wanted = {key: tensor.dtype for key, tensor in loaded[name].state_dict().items()}
        assert {key: tensor.dtype for key, tensor in made.state_dict().items()} == wanted
        assert {key: one.dtype for key, one in made.named_buffers()} == {
            key: one.dtype for key, one in loaded[name].named_buffers()
        }


def test_latents_are_as_many_as_is_said(family, model):
    for frames in (41, 49):
        request = job_of(family, width=320, height=256, num_frames=frames)
        numbers = model.prepare(request, Plan(), {}).numel() * 16 // 4  # as the published networks have
        assert numbers == SPECS[family].latent_numbers(320, 256, frames)


FAMILIES = ("cogvideox_5b_i2v", "cogvideox_15_i2v")


@pytest.fixture(scope="module")
def full() -> Callable[[str], DryRunner]:
    """At full size."""
    return cache(lambda family: DryRunner(family, None, "bfloat16"))


@pytest.mark.parametrize("family_at_full_size", FAMILIES)
def test_every_large_layer_is_in_a_block(full, family_at_full_size):
    """What is in no block stays on the card. What 5B I2V has learned of places is a twentieth of it."""
    model = full(family_at_full_size).model
    for name, modules in blocks_of(model).items():
        parts = parted(model.modules[name], modules)
        whole = parts.outside_bytes + sum(parts.sizes_bytes)
        assert parts.outside_bytes <= 0.05 * whole, name
        assert max(parts.sizes_bytes) <= whole / 20, name


# Of the usual size and length in bfloat16: the most that a phase may hold with its weights and with what cuDNN holds.
LIMITS = {
    "cogvideox_5b_i2v": {"text": 0.8, "picture": 1.4, "denoise": 1.2, "decode": 2.8},
    "cogvideox_15_i2v": {"text": 0.8, "picture": 3.2, "denoise": 1.5, "decode": 7.4},
}


@pytest.mark.parametrize("family_at_full_size", FAMILIES)
def test_full_size_fits(full, family_at_full_size):
    """diffusers' decoder holds 14.7 GiB of 720 x 480 and 49 frames, and 3.8 in blended tiles."""
    usual = SPECS[family_at_full_size].defaults
    request = job_of(family_at_full_size, width=usual.width, height=usual.height, num_frames=usual.num_frames)
    found = full(family_at_full_size).run(request, Plan(precision="bfloat16", chunk_tokens=1024, decode_frames=1))
    for phase in found.phases:
        (name,) = phase.components
        blocks = found.blocks.get(name)
        weights = found.weights[name] if blocks is None else blocks.outside + 2 * max(blocks.sizes)
        held = weights + phase.activations_bytes + phase.cudnn_bytes
        assert held / GIB <= LIMITS[family_at_full_size][phase.name], (phase.name, held / GIB)
