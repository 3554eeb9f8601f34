"""What is said of LTX-Video's memory before a run is what runs hold, to the byte; no step waits for a card."""

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
from i2v.families.ltx.model import Ltx
from i2v.memory.lanes import EarlyLane
from i2v.memory.streaming import parted
from i2v.plan import Placement, Plan, everywhere
from i2v.planning.known import PHASES, Question
from i2v.planning.machine import Machine
from i2v.planning.planner import Planner
from i2v.planning.rates import host_rates
from i2v.request import GenerationRequest
from i2v.units import GIB
from tests.late_lane import LateLane
from tests.ltx_checkpoints import JOB, LAST
from tests.planning.fake_card import watched
from tests.planning.phase_peaks import run
from tests.planning.real_runs import assert_same_bytes, bytes_of, follow

STAGED = Plan(places=everywhere("staged"))
PLANS = {"whole": Plan(), "staged": STAGED, "chunks": Plan(chunk_tokens=17, decode_rows=1)}


@pytest.fixture(scope="module")
def model(family: str, checkpoint: Path) -> Ltx:
    model = import_module(f"i2v.families.{family}.model").load(checkpoint, torch.float32)
    model.modules.load(model.modules)  # else the first phase would have all reading in it
    return model


@pytest.fixture(scope="module")
def dry(family: str, checkpoint: Path) -> DryRunner:
    return DryRunner(family, checkpoint, "float32")


@pytest.fixture
def asked(version: str) -> GenerationRequest:
    # As long sentences as there can be: that is what a dry run has.
    long = "water ripples and a lake " * 70
    request = replace(JOB, prompt=long, negative_prompt=long, num_inference_steps=2)
    return replace(request, inputs=(*JOB.inputs, LAST)) if version == "0.9.7" else request


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_fake_and_real_agree_to_the_byte(model, dry, asked, plan):
    assert_same_bytes(dry.phases(asked, plan), follow(model, asked, plan, steps=2))


def test_shortcuts_change_nothing(family, checkpoint, dry, asked):
    plan = PLANS["chunks"]
    long = DryRunner(family, checkpoint, "float32", shortcuts=False).phases(asked, plan)
    for quick in (dry.phases(asked, plan) for _ in range(2)):
        assert bytes_of(quick) == bytes_of(long)
        assert [one.passes for one in quick] == [one.passes for one in long]
        for one, other in zip(quick, long, strict=True):
            assert one.work(3).curve == pytest.approx(other.work(3).curve, rel=1e-9)


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


def test_streamed_is_resident_and_holds_what_was_said(model, dry, asked):
    """All networks, the autoencoder among them."""
    wanted, _ = run(model, asked, Plan(device="simulated", chunk_tokens=40, decode_rows=1))
    machine = Machine("simulated", host_rates(2), GIB, 64 * GIB, 64 * GIB)
    planner = Planner(machine, lambda request, plan: (dry.run(request, plan), True))
    sizes = parted(model.transformer, model.blocks["transformer"](model.transformer)).sizes_bytes
    for kept, slots, lane in ((0, 2, LateLane), (sum(sizes) // 3, 1, EarlyLane)):
        places = (*everywhere("streamed"), Placement("transformer", "streamed", kept, slots))
        plan = Plan(device="simulated", places=places, chunk_tokens=40, decode_rows=1)
        latents, peaks = run(model, asked, plan, lane)
        assert torch.equal(latents, wanted)
        assert peaks == {phase.name: phase.peak_bytes for phase in planner.forced(asked, plan).phases}


@pytest.mark.parametrize(
    ("version", "places", "tokens"), [("0.9.1", "resident", 0), ("0.9.7", "streamed", 33)], indirect=["version"]
)
def test_a_card_takes_every_phase_and_waits_in_no_step(family, checkpoint, asked, places, tokens):
    """Without guidance: its passes are the same again."""
    dry = DryRunner(family, checkpoint, "bfloat16")
    plan = Plan(device="cuda", precision="bfloat16", places=everywhere(places), chunk_tokens=tokens)
    assert watched(dry, replace(asked, num_frames=9, guidance_scale=1.0), plan).waits == []


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_skeleton_has_every_weight_in_the_precision_it_is_loaded_in(family, checkpoint, precision):
    loaded = import_module(f"i2v.families.{family}.model").load(checkpoint, getattr(torch, precision)).modules
    for name, made in DryRunner(family, checkpoint, precision).model.modules.items():
        wanted = {key: tensor.dtype for key, tensor in loaded[name].state_dict().items()}
        assert {key: tensor.dtype for key, tensor in made.state_dict().items()} == wanted
        assert [one.dtype for one in made.buffers()] == [one.dtype for one in loaded[name].buffers()]


def test_latents_are_as_many_as_is_said(family, model):
    request = replace(JOB, width=320, height=256, num_frames=121)
    numbers = model.prepare(request, Plan(), {}).numel() * 128 // 16  # as the published networks have
    assert numbers == SPECS[family].latent_numbers(320, 256, 121)


FAMILIES = ("ltx", "ltx_13b")


@pytest.fixture(scope="module")
def full() -> Callable[[str], DryRunner]:
    """At full size."""
    return cache(lambda family: DryRunner(family, None, "bfloat16"))


@pytest.mark.parametrize("family_at_full_size", FAMILIES)
def test_every_large_layer_is_in_a_block(full, family_at_full_size):
    """What is in no block stays on the card."""
    model = full(family_at_full_size).model
    for name, modules in blocks_of(model).items():
        parts = parted(model.modules[name], modules)
        whole = parts.outside_bytes + sum(parts.sizes_bytes)
        assert parts.outside_bytes <= 0.11 * whole, name
        assert max(parts.sizes_bytes) <= whole / 7, name


# At 704x1216 in bfloat16, 121 frames: the most that a phase may hold with its weights and with what cuDNN holds.
LIMITS = {
    "ltx": {"text": 0.9, "picture": 0.6, "denoise": 0.7, "decode": 2.7},
    "ltx_13b": {"text": 0.9, "picture": 0.9, "denoise": 1.9, "decode": 2.8},
}


@pytest.mark.parametrize("family_at_full_size", FAMILIES)
def test_full_size_fits(full, family_at_full_size):
    request = replace(JOB, width=1216, height=704, num_frames=121)
    found = full(family_at_full_size).run(request, Plan(precision="bfloat16", chunk_tokens=1024, decode_rows=1))
    for phase in found.phases:
        (name,) = phase.components
        weights = found.blocks[name].outside + 2 * max(found.blocks[name].sizes)
        held = weights + phase.activations_bytes + phase.cudnn_bytes
        assert held / GIB <= LIMITS[family_at_full_size][phase.name], (phase.name, held / GIB)
