"""What is said of HunyuanVideo-1.5's memory before a run is what runs hold, to the byte; no step waits for a card."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

from i2v.dryrun.runner import DryRunner, blocks_of
from i2v.families import SPECS
from i2v.families.hunyuan_video_15.model import HunyuanVideo15
from i2v.families.hunyuan_video_15.spec import latent_numbers
from i2v.families.hunyuan_video_15_i2v.model import load
from i2v.families.hunyuan_video_15_i2v.skeleton import CONFIGS
from i2v.memory.lanes import EarlyLane
from i2v.memory.streaming import parted
from i2v.plan import Placement, Plan, everywhere
from i2v.planning.known import PHASES, Question
from i2v.planning.machine import Machine
from i2v.planning.planner import Planner
from i2v.planning.rates import host_rates
from i2v.units import GIB
from tests.hunyuan_video_15_checkpoints import JOB, PICTURE
from tests.late_lane import LateLane
from tests.planning.fake_card import watched
from tests.planning.phase_peaks import run
from tests.planning.real_runs import assert_same_bytes, bytes_of, follow

FAMILY = "hunyuan_video_15_i2v"
SPEC = SPECS[FAMILY]
STAGED = Plan(places=everywhere("staged"))
PLANS = {"whole": Plan(), "staged": STAGED, "chunks": Plan(chunk_tokens=300, decode_rows=4)}
# As long sentences as there can be, with as much in quotes: that is what a dry run has.
LONG = 'a sign says "' + "water ripples " * 30 + '" ' + "and a lake " * 400
ASKED = replace(
    JOB, task="i2v", inputs=(PICTURE,), prompt=LONG, negative_prompt=LONG, num_frames=17, num_inference_steps=2
)


@pytest.fixture(scope="module")
def model(from_picture: Path) -> HunyuanVideo15:
    model = load(from_picture, torch.float32)
    model.modules.load(model.modules)  # else the first phase would have all reading in it
    return model


@pytest.fixture(scope="module")
def dry(from_picture: Path) -> Callable[[str], DryRunner]:
    """By precision."""
    return cache(lambda precision: DryRunner(FAMILY, from_picture, precision))


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_fake_and_real_agree_to_the_byte(model, dry, plan):
    assert_same_bytes(dry("float32").phases(ASKED, plan), follow(model, ASKED, plan, steps=2))


def test_shortcuts_change_nothing(from_picture, dry):
    plan = PLANS["chunks"]
    long = DryRunner(FAMILY, from_picture, "float32", shortcuts=False).phases(ASKED, plan)
    quick = dry("float32").phases(ASKED, plan)
    assert bytes_of(quick) == bytes_of(long)
    assert [one.passes for one in quick] == [one.passes for one in long]
    for one, other in zip(quick, long, strict=True):
        assert one.work(3).curve == pytest.approx(other.work(3).curve, rel=1e-9)


@pytest.mark.parametrize("phase", PHASES)
def test_knobs_are_all_that_a_phase_depends_on(dry, phase):
    otherwise = {
        "cfg": "split", "chunk_frames": 2, "chunk_pixels": 300, "decode_frames": 4, "decode_rows": 3, "chunk_tokens": 33
    }  # fmt: skip
    for name in SPEC.knobs.get(phase, ()):
        other = replace(STAGED, **{name: otherwise.pop(name)})
        assert Question.of(FAMILY, ASKED, other, phase) != Question.of(FAMILY, ASKED, STAGED, phase)
    changed = replace(STAGED, **otherwise)
    assert Question.of(FAMILY, ASKED, changed, phase) == Question.of(FAMILY, ASKED, STAGED, phase)
    found, known = (dry("float32").run(ASKED, plan, (phase,)).phases for plan in (changed, STAGED))
    assert bytes_of(found) == bytes_of(known)


def test_streamed_is_resident_and_holds_what_was_said(model, dry):
    asked = replace(ASKED, num_frames=5)
    wanted, _ = run(model, asked, Plan(device="simulated", chunk_tokens=40))
    machine = Machine("simulated", host_rates(2), GIB, 64 * GIB, 64 * GIB)
    planner = Planner(machine, lambda request, plan: (dry("float32").run(request, plan), True))
    sizes = parted(model.transformer, model.blocks["transformer"](model.transformer)).sizes_bytes
    for kept, slots, lane in ((0, 2, LateLane), (sum(sizes) // 3, 1, EarlyLane)):
        places = (*everywhere("streamed"), Placement("transformer", "streamed", kept, slots))
        plan = Plan(device="simulated", places=places, chunk_tokens=40)
        latents, peaks = run(model, asked, plan, lane)
        assert torch.equal(latents, wanted)
        assert peaks == {phase.name: phase.peak_bytes for phase in planner.forced(asked, plan).phases}


@pytest.mark.parametrize(("places", "tokens", "rows"), [("resident", 0, 0), ("streamed", 300, 8)])
def test_a_card_takes_every_phase_and_waits_in_no_step(dry, places, tokens, rows):
    plan = Plan(
        device="cuda", precision="bfloat16", places=everywhere(places), chunk_tokens=tokens, decode_rows=rows
    )  # fmt: skip
    assert watched(dry("bfloat16"), replace(ASKED, num_frames=5, num_inference_steps=1), plan).waits == []


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_skeleton_has_every_weight_in_the_precision_it_is_loaded_in(from_picture, dry, precision):
    loaded = load(from_picture, getattr(torch, precision)).modules
    for name, made in dry(precision).model.modules.items():
        wanted = {key: tensor.dtype for key, tensor in loaded[name].state_dict().items()}
        assert {key: tensor.dtype for key, tensor in made.state_dict().items()} == wanted
        assert [one.dtype for one in made.buffers()] == [one.dtype for one in loaded[name].buffers()]


def test_latents_are_as_many_as_is_said(model):
    request = replace(ASKED, width=848, height=480, num_frames=121)
    assert model.prepare(request, Plan(), {}).numel() == latent_numbers(848, 480, 121)


@pytest.fixture(scope="module")
def full() -> DryRunner:
    return DryRunner(FAMILY, CONFIGS, "bfloat16")


def test_every_large_layer_is_in_a_block(full):
    """What is in no block stays on the card: the words' embeddings, and little else."""
    assert 8.2e9 < sum(one.numel() for one in full.model.transformer.parameters()) < 8.4e9
    for name, modules in blocks_of(full.model).items():
        module = full.model.modules[name]
        parts = parted(module, modules)
        whole = parts.outside_bytes + sum(parts.sizes_bytes)
        embeddings = [part.weight for part in module.modules() if isinstance(part, torch.nn.Embedding)]
        assert parts.outside_bytes - sum(one.nbytes for one in embeddings) <= 0.03 * whole, name
        assert max(parts.sizes_bytes) <= whole / 10, name


# At 1280x720 in bfloat16, 121 frames: the most that a phase may hold on a card, with two blocks of what streams and
# all of what does not.
LIMITS_GIB = {"text": 1.1, "glyphs": 0.1, "image": 0.1, "latents": 3.8, "denoise": 2.3, "decode": 4.7}


def test_full_size_fits(full):
    request = replace(ASKED, width=1280, height=720, num_frames=121)
    found = full.run(request, Plan(precision="bfloat16", **SPEC.rungs[-1]))
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
