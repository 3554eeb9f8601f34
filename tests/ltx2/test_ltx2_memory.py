"""What is said of LTX-2's memory before a run is what runs hold, to the byte; no step waits for a card."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import LTX2VideoTransformer3DModel

from i2v.dryrun.runner import DryRunner, blocks_of
from i2v.families.ltx2.model import Ltx2, load
from i2v.families.ltx2.skeleton import CONFIGS
from i2v.families.ltx2.spec import SPEC, latent_numbers
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
from tests.ltx2_checkpoints import BETWEEN, JOB, LAST
from tests.planning.fake_card import watched
from tests.planning.phase_peaks import run
from tests.planning.real_runs import assert_same_bytes, bytes_of, follow

STAGED = Plan(places=everywhere("staged"))
PLANS = {"whole": Plan(), "staged": STAGED, "chunks": Plan(chunk_tokens=17, decode_rows=1)}


@pytest.fixture(scope="module")
def model(checkpoint) -> Ltx2:
    model = load(checkpoint, torch.float32)
    model.modules.load(model.modules)  # else the first phase would have all reading in it
    return model


@pytest.fixture(scope="module")
def dry(checkpoint) -> DryRunner:
    return DryRunner("ltx2", checkpoint, "float32")


@pytest.fixture
def asked() -> GenerationRequest:
    # As long sentences as there can be: that is what a dry run has.
    long = "water ripples and a lake " * 220
    return replace(JOB, prompt=long, negative_prompt=long, num_inference_steps=2)


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_fake_and_real_agree_to_the_byte(model, dry, asked, plan):
    assert_same_bytes(dry.phases(asked, plan), follow(model, asked, plan, steps=2))


def test_shortcuts_change_nothing(checkpoint, dry, asked):
    plan = PLANS["chunks"]
    long = DryRunner("ltx2", checkpoint, "float32", shortcuts=False).phases(asked, plan)
    for quick in (dry.phases(asked, plan) for _ in range(2)):
        assert bytes_of(quick) == bytes_of(long)
        assert [one.passes for one in quick] == [one.passes for one in long]
        for one, other in zip(quick, long, strict=True):
            assert one.work(3).curve == pytest.approx(other.work(3).curve, rel=1e-9)


@pytest.mark.parametrize("phase", PHASES)
def test_knobs_are_all_that_a_phase_depends_on(dry, asked, phase):
    otherwise = {"cfg": "split", "chunk_frames": 2, "chunk_pixels": 300, "decode_frames": 4, "chunk_tokens": 33,
                 "decode_rows": 2}  # fmt: skip
    for name in SPEC.knobs.get(phase, ()):
        other = replace(STAGED, **{name: otherwise.pop(name)})
        assert Question.of("ltx2", asked, other, phase) != Question.of("ltx2", asked, STAGED, phase)
    changed = replace(STAGED, **otherwise)
    assert Question.of("ltx2", asked, changed, phase) == Question.of("ltx2", asked, STAGED, phase)
    assert bytes_of(dry.run(asked, changed, (phase,)).phases) == bytes_of(dry.run(asked, STAGED, (phase,)).phases)


@pytest.mark.parametrize("added", [(LAST,), (BETWEEN, LAST)], ids=["last", "between"])
def test_an_added_frame_is_more_to_do_and_is_asked_for(model, dry, asked, added):
    both = replace(asked, inputs=(*asked.inputs, *added))
    assert_same_bytes(dry.phases(both, STAGED), follow(model, both, STAGED, steps=2))
    for phase in PHASES:
        alike = bytes_of(dry.run(asked, STAGED, (phase,)).phases) == bytes_of(dry.run(both, STAGED, (phase,)).phases)
        assert alike == (Question.of("ltx2", asked, STAGED, phase) == Question.of("ltx2", both, STAGED, phase))


@pytest.mark.parametrize("phase", PHASES)
def test_what_depends_on_the_rate_is_asked_by_rate(dry, asked, phase):
    """The slower the pictures, the longer the sound."""
    slower = replace(asked, fps=6)
    same = bytes_of(dry.run(asked, STAGED, (phase,)).phases) == bytes_of(dry.run(slower, STAGED, (phase,)).phases)
    assert same == (Question.of("ltx2", asked, STAGED, phase) == Question.of("ltx2", slower, STAGED, phase))


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


@pytest.mark.parametrize(("version", "places", "tokens"), [("2.0", "resident", 0), ("2.3", "streamed", 33)])
def test_a_card_takes_every_phase_and_waits_in_no_step(folders, version, places, tokens):
    """Without guidance: its passes are the same again."""
    dry = DryRunner("ltx2", folders(version), "bfloat16")
    plan = Plan(device="cuda", precision="bfloat16", places=everywhere(places), chunk_tokens=tokens)
    assert watched(dry, replace(JOB, num_frames=9, num_inference_steps=2, guidance_scale=1.0), plan).waits == []


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_skeleton_has_every_weight_in_the_precision_it_is_loaded_in(checkpoint, precision):
    """The sound is made in float32."""
    loaded = load(checkpoint, getattr(torch, precision)).modules
    for name, made in DryRunner("ltx2", checkpoint, precision).model.modules.items():
        wanted = {key: tensor.dtype for key, tensor in loaded[name].state_dict().items()}
        assert {key: tensor.dtype for key, tensor in made.state_dict().items()} == wanted
        assert [one.dtype for one in made.buffers()] == [one.dtype for one in loaded[name].buffers()]


def test_latents_are_never_more_than_is_said(model):
    for frames, fps in ((9, 24), (121, 24), (17, 25), (257, 60)):
        request = replace(JOB, width=320, height=256, num_frames=frames, fps=fps)
        layout = model.layout(request)
        numbers = 128 * (layout.tokens + layout.sounds)  # as the published networks have
        assert numbers <= latent_numbers(320, 256, frames)


@pytest.fixture(scope="module")
def full() -> DryRunner:
    return DryRunner("ltx2", CONFIGS, "bfloat16")


def test_every_large_layer_is_in_a_block(full):
    """What is in no block stays on the card: the words' embeddings, two layers that join what Gemma's layers say, and
    little else."""
    model = full.model
    assert isinstance(model.transformer, LTX2VideoTransformer3DModel)
    for name, modules in blocks_of(model).items():
        module = model.modules[name]
        parts = parted(module, modules)
        whole = parts.outside_bytes + sum(parts.sizes_bytes)
        inside = {id(weight) for block in modules for weight in block.parameters()}
        known = sum(
            weight.nbytes
            for key, weight in module.named_parameters()
            if id(weight) not in inside and ("embed_tokens" in key or "text_proj_in" in key)
        )
        assert parts.outside_bytes - known <= 0.05 * whole, name
        assert max(parts.sizes_bytes) <= whole / 10, name


# At 768x1280 in bfloat16, 121 frames: the most that a phase may hold beside weights, with what cuDNN holds, and with
# those that do not stream.
LIMITS = {"text": 6.3, "picture": 1.6, "denoise": 2.8, "decode": 4.7}


def test_full_size_fits(full):
    request = replace(JOB, width=1280, height=768, num_frames=121)
    plan = Plan(precision="bfloat16", chunk_tokens=1024, decode_rows=1)
    found = full.run(request, plan)
    for phase in found.phases:
        weights = sum(
            found.blocks[name].outside + 2 * max(found.blocks[name].sizes)
            if name in found.blocks
            else found.weights[name]
            for name in phase.components
        )
        held = weights + phase.activations_bytes + phase.cudnn_bytes
        assert held / GIB <= LIMITS[phase.name], phase.name
