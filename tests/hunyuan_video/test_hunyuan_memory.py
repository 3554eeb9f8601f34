"""What is said of HunyuanVideo's memory before a run is what runs hold, to the byte; no step waits for a card; and out
of memory heals wherever it comes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from i2v.dryrun.runner import DryRunner, blocks_of
from i2v.families.hunyuan_video.model import HunyuanVideo, load
from i2v.families.hunyuan_video.skeleton import CONFIGS
from i2v.families.hunyuan_video.spec import SPEC
from i2v.memory.lanes import EarlyLane
from i2v.memory.streaming import parted
from i2v.plan import Placement, Plan, everywhere
from i2v.planning.known import PHASES, Question
from i2v.planning.machine import Machine
from i2v.planning.planner import Planner
from i2v.planning.rates import host_rates
from i2v.request import GenerationRequest, Input
from i2v.units import GIB
from i2v.vae_window import OWN
from tests.late_lane import LateLane
from tests.planning.fake_card import watched
from tests.planning.phase_peaks import run
from tests.planning.real_runs import assert_same_bytes, bytes_of, follow

STAGED = Plan(places=everywhere("staged"), decode_frames=0)
PLANS = {"whole": Plan(decode_frames=0), "staged": STAGED, "chunks": Plan(chunk_tokens=40, decode_frames=2)}


@pytest.fixture(scope="module")
def model(checkpoint) -> HunyuanVideo:
    model = load(checkpoint, torch.float32)
    model.modules.load(model.modules)  # else the first phase would have all reading in it
    return model


@pytest.fixture(scope="module")
def dry(checkpoint) -> DryRunner:
    return DryRunner("hunyuan_video", checkpoint, "float32")


@pytest.fixture(params=["t2v", "v2v"])
def asked(request: pytest.FixtureRequest, job: GenerationRequest) -> GenerationRequest:
    # As long a sentence as there can be: that is what a dry run has.
    job = replace(job, prompt="water ripples and a lake " * 100, width=288, num_frames=21, num_inference_steps=2)
    return job if request.param == "t2v" else replace(job, task="v2v", inputs=(Input("video", "", None, 0.5),))


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_fake_and_real_agree_to_the_byte(model, dry, asked, plan):
    assert_same_bytes(dry.phases(asked, plan), follow(model, asked, plan, steps=2))


def test_shortcuts_change_nothing(checkpoint, dry, asked):
    plan = PLANS["chunks"]
    long = DryRunner("hunyuan_video", checkpoint, "float32", shortcuts=False).phases(asked, plan)
    for quick in (dry.phases(asked, plan) for _ in range(2)):
        assert bytes_of(quick) == bytes_of(long)
        assert [one.passes for one in quick] == [one.passes for one in long]
        for one, other in zip(quick, long, strict=True):
            assert one.work(3).curve == pytest.approx(other.work(3).curve, rel=1e-9)


@pytest.mark.parametrize("phase", PHASES)
def test_knobs_are_all_that_a_phase_depends_on(dry, asked, phase):
    otherwise = {"cfg": "split", "chunk_frames": 2, "chunk_pixels": 300, "decode_frames": 4, "chunk_tokens": 33}
    otherwise["decode_rows"] = 3
    otherwise["vae_window"] = "5x8x8"
    for name in SPEC.knobs[phase]:
        other = replace(STAGED, **{name: otherwise.pop(name)})
        assert Question.of("hunyuan_video", asked, other, phase) != Question.of("hunyuan_video", asked, STAGED, phase)
    changed = replace(STAGED, **otherwise)
    assert Question.of("hunyuan_video", asked, changed, phase) == Question.of("hunyuan_video", asked, STAGED, phase)
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


@pytest.mark.parametrize("asked", ["v2v"], indirect=True)
def test_other_windows_hold_what_was_said(model, dry, asked):
    """Of which a row has more than a dry run makes."""
    asked = replace(asked, width=160, num_frames=9)
    plan = replace(STAGED, device="simulated", vae_window="5x16x6")
    assert_same_bytes(dry.phases(asked, plan), follow(model, asked, plan, steps=2))
    machine = Machine("simulated", host_rates(2), GIB, 64 * GIB, 64 * GIB)
    planner = Planner(machine, lambda request, plan: (dry.run(request, plan), True))
    own, other = (
        {phase.name: phase.peak_bytes for phase in planner.forced(asked, one).phases}
        for one in (replace(plan, vae_window=OWN), plan)
    )
    assert run(model, asked, plan)[1] == other
    assert other["decode"] < own["decode"] / 2


@pytest.mark.parametrize("places", ["resident", "streamed"])
@pytest.mark.parametrize("tokens", [0, 40])
def test_a_card_takes_every_phase_and_waits_in_no_step(checkpoint, asked, places, tokens):
    dry = DryRunner("hunyuan_video", checkpoint, "bfloat16")
    plan = Plan(device="cuda", precision="bfloat16", places=everywhere(places), chunk_tokens=tokens)
    assert watched(dry, replace(asked, width=128), plan).waits == []


def test_every_large_layer_is_in_a_block():
    """What is in no block stays on the card: the words' embeddings, and little else."""
    model = DryRunner("hunyuan_video", CONFIGS, "bfloat16").model
    for name, modules in blocks_of(model).items():
        module = model.modules[name]
        parts = parted(module, modules)
        whole = parts.outside_bytes + sum(parts.sizes_bytes)
        embeddings = [part.weight for part in module.modules() if isinstance(part, torch.nn.Embedding)]
        assert parts.outside_bytes - sum(one.nbytes for one in embeddings) <= 0.03 * whole, name
        assert max(parts.sizes_bytes) <= whole / 10, name
