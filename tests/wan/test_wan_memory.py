"""What is said of Wan's memory before a run is what runs hold, to the byte; no step waits for a card."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import WanTransformer3DModel

from i2v.dryrun.runner import DryRunner, blocks_of
from i2v.families.wan.model import Wan, load
from i2v.families.wan.skeleton import CONFIGS
from i2v.families.wan.spec import SPEC
from i2v.memory.lanes import EarlyLane
from i2v.memory.streaming import parted
from i2v.plan import Placement, Plan, everywhere
from i2v.planning.known import PHASES, Question
from i2v.planning.machine import Machine
from i2v.planning.planner import Planner
from i2v.planning.rates import host_rates
from i2v.request import GenerationRequest, Input
from i2v.units import GIB
from tests.late_lane import LateLane
from tests.planning.fake_card import watched
from tests.planning.phase_peaks import run
from tests.planning.real_runs import assert_same_bytes, bytes_of, follow

STAGED = Plan(places=everywhere("staged"))
PLANS = {"whole": Plan(), "staged": STAGED, "chunks": Plan(chunk_tokens=40, decode_rows=3)}


@pytest.fixture(scope="module")
def model(checkpoint) -> Wan:
    model = load(checkpoint, torch.float32)
    model.modules.load(model.modules)  # else the first phase would have all reading in it
    return model


@pytest.fixture(scope="module")
def dry(checkpoint) -> DryRunner:
    return DryRunner("wan", checkpoint, "float32")


@pytest.fixture(params=["t2v", "v2v"])
def asked(job: GenerationRequest, request: pytest.FixtureRequest) -> GenerationRequest:
    # As long sentences as there can be: that is what a dry run has.
    long = "water ripples and a lake " * 110
    asked = replace(job, prompt=long, negative_prompt=long, num_frames=13, num_inference_steps=3)
    if request.param == "t2v":
        return asked
    return replace(asked, task="v2v", inputs=(Input("video", "", None, 0.5),))


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_fake_and_real_agree_to_the_byte(model, dry, asked, plan):
    assert_same_bytes(dry.phases(asked, plan), follow(model, asked, plan, steps=SPEC.steps_until_alike))


def test_shortcuts_change_nothing(checkpoint, dry, asked):
    plan = PLANS["chunks"]
    long = DryRunner("wan", checkpoint, "float32", shortcuts=False).phases(asked, plan)
    for quick in (dry.phases(asked, plan) for _ in range(2)):
        assert bytes_of(quick) == bytes_of(long)
        assert [one.passes for one in quick] == [one.passes for one in long]
        for one, other in zip(quick, long, strict=True):
            assert one.work(3).curve == pytest.approx(other.work(3).curve, rel=1e-9)


@pytest.mark.parametrize("phase", PHASES)
def test_knobs_are_all_that_a_phase_depends_on(dry, asked, phase):
    otherwise = {"cfg": "split", "chunk_frames": 2, "chunk_pixels": 300, "decode_frames": 4, "chunk_tokens": 33}
    otherwise["decode_rows"] = 3
    for name in SPEC.knobs.get(phase, ()):
        other = replace(STAGED, **{name: otherwise.pop(name)})
        assert Question.of("wan", asked, other, phase) != Question.of("wan", asked, STAGED, phase)
    changed = replace(STAGED, **otherwise)
    assert Question.of("wan", asked, changed, phase) == Question.of("wan", asked, STAGED, phase)
    assert bytes_of(dry.run(asked, changed, (phase,)).phases) == bytes_of(dry.run(asked, STAGED, (phase,)).phases)


def test_streamed_is_resident_and_holds_what_was_said(model, dry, asked):
    wanted, _ = run(model, asked, Plan(device="simulated", chunk_tokens=40))
    machine = Machine("simulated", host_rates(2), GIB, 64 * GIB, 64 * GIB)
    planner = Planner(machine, lambda request, plan: (dry.run(request, plan), True))
    sizes = parted(model.transformer, model.blocks["transformer"](model.transformer)).sizes_bytes
    for kept, slots, lane in ((0, 2, LateLane), (sum(sizes) // 3, 1, EarlyLane), (sum(sizes), 2, LateLane)):
        places = (*everywhere("streamed"), Placement("transformer", "streamed", kept, slots))
        plan = Plan(device="simulated", places=places, chunk_tokens=40)
        latents, peaks = run(model, asked, plan, lane)
        assert torch.equal(latents, wanted)
        assert peaks == {phase.name: phase.peak_bytes for phase in planner.forced(asked, plan).phases}


@pytest.mark.parametrize(("places", "tokens"), [("resident", 0), ("streamed", 100)])
def test_a_card_takes_every_phase_and_waits_in_no_step(checkpoint, job, places, tokens):
    dry = DryRunner("wan", checkpoint, "bfloat16")
    plan = Plan(device="cuda", precision="bfloat16", places=everywhere(places), chunk_tokens=tokens)
    assert watched(dry, replace(job, num_frames=5, num_inference_steps=2), plan).waits == []


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_skeleton_has_every_weight_in_the_precision_it_is_loaded_in(checkpoint, precision):
    """diffusers keeps some layers of the transformer in float32."""
    loaded = load(checkpoint, getattr(torch, precision)).modules
    for name, made in DryRunner("wan", checkpoint, precision).model.modules.items():
        wanted = {key: tensor.dtype for key, tensor in loaded[name].state_dict().items()}
        assert {key: tensor.dtype for key, tensor in made.state_dict().items()} == wanted
        assert [one.dtype for one in made.buffers()] == [one.dtype for one in loaded[name].buffers()]


def test_strips_are_what_a_run_decodes_in(job):
    """At full size, in which a strip is a part: 60 rows of latents."""
    full = DryRunner("wan", CONFIGS, "bfloat16")
    clip = replace(job, width=832, height=480, num_frames=17)
    plans = (replace(STAGED, precision="bfloat16", decode_rows=rows) for rows in (0, 16, 8))
    whole, strips, smaller = (full.run(clip, plan, ("decode",)).phases[0].activations_bytes for plan in plans)
    assert strips < 0.6 * whole
    assert smaller < 0.8 * strips


def test_every_large_layer_is_in_a_block():
    """What is in no block stays on the card: the words' embeddings, and little else."""
    model = DryRunner("wan", CONFIGS, "bfloat16").model
    assert isinstance(model.transformer, WanTransformer3DModel)
    for name, modules in blocks_of(model).items():
        module = model.modules[name]
        parts = parted(module, modules)
        whole = parts.outside_bytes + sum(parts.sizes_bytes)
        embeddings = {id(one.weight): one.weight for one in module.modules() if isinstance(one, torch.nn.Embedding)}
        inside = {id(weight) for block in modules for weight in block.parameters()}
        words = sum(weight.nbytes for key, weight in embeddings.items() if key not in inside)
        assert parts.outside_bytes - words <= 0.05 * whole, name
        assert max(parts.sizes_bytes) <= whole / 10, name
