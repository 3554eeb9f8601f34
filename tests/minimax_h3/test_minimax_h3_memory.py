"""What is said of MiniMax-H3's memory before a run is what runs hold, to the byte; no step waits for a card."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import MiniMaxH3Transformer3DModel

from i2v.dryrun.runner import DryRunner, blocks_of
from i2v.families.minimax_h3.model import MiniMaxH3, load
from i2v.families.minimax_h3.skeleton import CONFIGS
from i2v.families.minimax_h3.spec import SPEC, latent_numbers
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
from tests.minimax_h3_checkpoints import BOTH_ENDS, JOB
from tests.planning.fake_card import watched
from tests.planning.phase_peaks import run
from tests.planning.real_runs import assert_same_bytes, bytes_of, follow

STAGED = Plan(places=everywhere("staged"))
PLANS = {"whole": Plan(), "staged": STAGED, "chunks": Plan(chunk_tokens=17)}
# As long a sentence as there can be, with the white space between words: that is what a dry run has.
ASKED = replace(JOB, width=64, prompt="water ripples and a lake " * 110, num_inference_steps=2)


@pytest.fixture(scope="module")
def model(checkpoint) -> MiniMaxH3:
    model = load(checkpoint, torch.float32)
    model.modules.load(model.modules)  # else the first phase would have all reading in it
    return model


@pytest.fixture(scope="module")
def dry(checkpoint) -> DryRunner:
    return DryRunner("minimax_h3", checkpoint, "float32")


@pytest.fixture(params=["i2v", "t2v", "both ends"])
def asked(request: pytest.FixtureRequest) -> GenerationRequest:
    if request.param == "both ends":
        return replace(ASKED, inputs=BOTH_ENDS.inputs)
    return replace(ASKED, task=request.param)


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_fake_and_real_agree_to_the_byte(model, dry, asked, plan):
    assert_same_bytes(dry.phases(asked, plan), follow(model, asked, plan, steps=2))


def test_shortcuts_change_nothing(checkpoint, dry):
    plan = PLANS["chunks"]
    long = DryRunner("minimax_h3", checkpoint, "float32", shortcuts=False).phases(ASKED, plan)
    for quick in (dry.phases(ASKED, plan) for _ in range(2)):
        assert bytes_of(quick) == bytes_of(long)
        assert [one.passes for one in quick] == [one.passes for one in long]
        for one, other in zip(quick, long, strict=True):
            assert one.work(3).curve == pytest.approx(other.work(3).curve, rel=1e-9)


@pytest.mark.parametrize("phase", PHASES)
def test_knobs_are_all_that_a_phase_depends_on(dry, phase):
    otherwise = {"cfg": "split", "chunk_frames": 2, "chunk_pixels": 300, "decode_frames": 4, "chunk_tokens": 33}
    for name in SPEC.knobs.get(phase, ()):
        other = replace(STAGED, **{name: otherwise.pop(name)})
        assert Question.of("minimax_h3", ASKED, other, phase) != Question.of("minimax_h3", ASKED, STAGED, phase)
    changed = replace(STAGED, **otherwise)
    assert Question.of("minimax_h3", ASKED, changed, phase) == Question.of("minimax_h3", ASKED, STAGED, phase)
    assert bytes_of(dry.run(ASKED, changed, (phase,)).phases) == bytes_of(dry.run(ASKED, STAGED, (phase,)).phases)


def test_streamed_is_resident_and_holds_what_was_said(model, dry):
    wanted, _ = run(model, ASKED, Plan(device="simulated", chunk_tokens=40))
    machine = Machine("simulated", host_rates(2), GIB, 64 * GIB, 64 * GIB)
    planner = Planner(machine, lambda request, plan: (dry.run(request, plan), True))
    sizes = parted(model.transformer, model.blocks["transformer"](model.transformer)).sizes_bytes
    for kept, slots, lane in ((0, 2, LateLane), (sum(sizes) // 3, 1, EarlyLane)):
        places = (*everywhere("streamed"), Placement("transformer", "streamed", kept, slots))
        plan = Plan(device="simulated", places=places, chunk_tokens=40)
        latents, peaks = run(model, ASKED, plan, lane)
        assert torch.equal(latents, wanted)
        assert peaks == {phase.name: phase.peak_bytes for phase in planner.forced(ASKED, plan).phases}


@pytest.fixture(scope="module")
def half(checkpoint) -> DryRunner:
    return DryRunner("minimax_h3", checkpoint, "bfloat16")


@pytest.mark.parametrize(("task", "places", "tokens"), [("i2v", "resident", 0), ("t2v", "streamed", 300)])
def test_a_card_takes_every_phase_and_waits_in_no_step(half, task, places, tokens):
    plan = Plan(device="cuda", precision="bfloat16", places=everywhere(places), chunk_tokens=tokens)
    assert watched(half, replace(ASKED, task=task), plan).waits == []


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_skeleton_has_every_weight_in_the_precision_it_is_loaded_in(checkpoint, dry, half, precision):
    """Some layers of the transformer and of the autoencoder stay in float32, and the sound is made in it."""
    loaded = load(checkpoint, getattr(torch, precision)).modules
    for name, made in (dry if precision == "float32" else half).model.modules.items():
        wanted = {key: tensor.dtype for key, tensor in loaded[name].state_dict().items()}
        assert {key: tensor.dtype for key, tensor in made.state_dict().items()} == wanted
        assert [one.dtype for one in made.buffers()] == [one.dtype for one in loaded[name].buffers()]


def test_latents_are_never_more_than_is_said(model):
    for frames in (124, 141, 345):
        for task in ("i2v", "t2v"):
            shapes = model.layout(replace(JOB, task=task, width=320, height=256, num_frames=frames)).shapes
            assert sum(rows * width for rows, width in shapes) <= latent_numbers(320, 256, frames)


@pytest.fixture(scope="module")
def full() -> DryRunner:
    return DryRunner("minimax_h3", CONFIGS, "bfloat16")


def test_every_large_layer_is_in_a_block(full):
    """What is in no block stays on the card: the words' embeddings, what makes latents of pictures, and little else."""
    model = full.model
    assert isinstance(model.transformer, MiniMaxH3Transformer3DModel)
    for name, modules in blocks_of(model).items():
        module = model.modules[name]
        parts = parted(module, modules)
        whole = parts.outside_bytes + sum(parts.sizes_bytes)
        known = sum(
            weight.nbytes
            for key, weight in module.named_parameters()
            if "embed_tokens" in key or key.startswith("encoder.")
        )
        assert parts.outside_bytes - known <= 0.05 * whole, name
        assert max(parts.sizes_bytes) <= whole / 10, name


# At 864x480 in bfloat16, 124 frames: the most that a phase may hold on a card, with two blocks of what streams and all
# of what does not.
LIMITS_GIB = {"text": 3.9, "latents": 1.3, "denoise": 3.5, "decode": 2.3}


def test_full_size_fits(full):
    found = full.run(replace(JOB, width=864, height=480), Plan(precision="bfloat16", chunk_tokens=1024))
    assert {phase.name for phase in found.phases} == LIMITS_GIB.keys()
    for phase in found.phases:
        weights = sum(
            found.blocks[name].outside + 2 * max(found.blocks[name].sizes)
            if name in found.blocks
            else found.weights[name]
            for name in phase.components
        )
        held = weights + phase.activations_bytes + phase.cudnn_bytes
        assert held / GIB <= LIMITS_GIB[phase.name], phase.name
