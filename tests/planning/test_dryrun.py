"""The dry run against real runs of the same code on the same card of host memory: the same bytes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from i2v.dryrun.allocator import SMALL_SEGMENT
from i2v.dryrun.runner import DryRunner, MeteredCard
from i2v.dryrun.work_tracker import WorkTracker
from i2v.families import SPECS
from i2v.families.base import FamilyModel, change_weights
from i2v.families.i2vgen_xl.model import load as load_i2vgen_xl
from i2v.families.nano.model import load as load_nano
from i2v.families.nano.warp import MotionDecoder
from i2v.memory.card import SimulatedCard
from i2v.plan import Plan, Weights, everywhere
from i2v.planning.known import PHASES, Question
from i2v.planning.planner import LOSSY_WEIGHTS
from i2v.request import GenerationRequest
from tests.planning.real_runs import assert_same_bytes, bytes_of, follow, unused
from tests.planning.support import NANO, runner

LOADERS = {"nano": load_nano, "i2vgen_xl": load_i2vgen_xl}
# Latent pixels in at least four chunks, of which a dry run runs three, and in two: nano has 576 cells for any picture.
FOUR_CHUNKS = {"nano": 150, "i2vgen_xl": 24}
TWO_CHUNKS = {"nano": 300, "i2vgen_xl": 50}


def plans(family: str) -> tuple[Plan, ...]:
    split = Plan(cfg="split", places=everywhere("staged"))
    halves = replace(split, chunk_frames=2, chunk_pixels=TWO_CHUNKS[family])
    return (
        Plan(),
        split,
        replace(split, chunk_frames=1, chunk_pixels=FOUR_CHUNKS[family]),
        replace(halves, decode_frames=2),
        replace(halves, weights="float8", lossless=False),
    )


def half_plans(family: str) -> tuple[Plan, ...]:
    """Many a processor takes fifty times as long for these: few operations have to do."""
    plan = Plan(precision="bfloat16")
    return plan, replace(plan, chunk_frames=3, chunk_pixels=TWO_CHUNKS[family], weights="int8", lossless=False)


def request(width: int, height: int, frames: int, guidance: float, steps: int = 2) -> GenerationRequest:
    return GenerationRequest(
        model="any", prompt="a lake", width=width, height=height, num_frames=frames, fps=8,
        num_inference_steps=steps, guidance_scale=guidance, seed=1,
    )  # fmt: skip


# With guidance and without, and the second not even: neither in its frames, nor cut in chunks of two.
GUIDED, ALONE = request(32, 48, 4, 9.0), request(48, 32, 5, 1.0)


def one_step(job: GenerationRequest, guidance: float) -> GenerationRequest:
    return replace(job, num_inference_steps=1, guidance_scale=guidance)


def asked_of(plan: Plan) -> tuple[GenerationRequest, ...]:
    """Chunks make a real pass long: under them one step, with two passes at the size that chunks do not divide and one
    at the other. Without them two steps, and with guidance and without at one size, where layers are most alike."""
    if plan.chunk_frames:
        return one_step(ALONE, 9.0), one_step(GUIDED, 1.0)
    return GUIDED, one_step(GUIDED, 1.0), one_step(ALONE, 1.0)


@cache
def loaded(family: str, folder: Path, precision: str, weights: Weights) -> FamilyModel:
    model = LOADERS[family](folder, getattr(torch, precision))
    change_weights(model, weights)
    return model


@pytest.mark.parametrize(("family", "number"), itertools.product(LOADERS, range(5)))
def test_fake_and_real_agree_to_the_byte(small_models, family, number):
    """Twenty-four settings: two families, five plans, each of two sizes, with guidance and without. With the six in
    half precision and of the bundled model below they are thirty."""
    plan = plans(family)[number]
    agree(family, small_models[family], plan, asked_of(plan))


@pytest.mark.parametrize(("family", "number"), itertools.product(LOADERS, range(2)))
def test_fake_and_real_agree_in_half_precision(small_models, family, number):
    agree(family, small_models[family], half_plans(family)[number], [one_step(ALONE, 1.0)])


def test_fake_and_real_agree_for_the_bundled_model():
    agree("nano", NANO, plans("nano")[3], [one_step(ALONE, 1.0), one_step(GUIDED, 1.0)])


def agree(family: str, folder: Path, plan: Plan, jobs: Sequence[GenerationRequest]) -> None:
    real = loaded(family, folder, plan.precision, plan.weights)
    dry = runner(family, folder, plan.precision, plan.weights)
    for asked in jobs:
        assert_same_bytes(dry.phases(asked, plan), follow(real, asked, plan, steps=asked.num_inference_steps))


@pytest.mark.parametrize(("family", "number"), [("nano", 2), ("i2vgen_xl", 4)], ids=["nano", "i2vgen_xl-float8"])
def test_shortcuts_change_nothing(small_models, family, number):
    """Identical layers replayed or run: the same bytes and the same work, also where all is replayed."""
    plan = plans(family)[number]
    asked = family, small_models[family], "float32", plan.weights
    job = one_step(ALONE, 1.0)
    long = DryRunner(*asked, shortcuts=False).phases(job, plan)
    for quick in (runner(*asked).phases(job, plan) for _ in range(2)):
        assert bytes_of(quick) == bytes_of(long)
        assert unused(quick) == unused(long)
        for one, other in zip(quick, long, strict=True):
            assert one.work(3).curve == pytest.approx(other.work(3).curve, rel=1e-9)
            assert one.work(3).launches == pytest.approx(other.work(3).launches, rel=1e-9)


@pytest.mark.parametrize("family", ["nano", "i2vgen_xl"])
@pytest.mark.parametrize("cfg", ["split", "batch"])
def test_blocks_that_were_passed_unseen_count_as_well(small_models, family, cfg):
    """The second pass of a step is replayed, and in a second run everything: as often through the blocks all the same,
    and the computing spread alike."""
    job, plan = one_step(ALONE, 2.0), replace(plans(family)[0], cfg=cfg, weights="full")
    asked = family, small_models[family], "float32", plan.weights
    long = {run.name: run.passes for run in DryRunner(*asked, shortcuts=False).phases(job, plan)}
    assert long["denoise"]["unet"].passes == {"split": 2, "batch": 1}[cfg]
    quick = DryRunner(*asked)
    for _ in range(2):
        assert {run.name: run.passes for run in quick.phases(job, plan)} == long


def test_phases_run_alone_are_those_of_the_whole(small_models):
    """In any order, and where what was encoded for one serves the next."""
    for family in ("nano", "i2vgen_xl"):
        job = replace(one_step(ALONE, 2.0), num_inference_steps=2)
        plan = replace(plans(family)[0], places=everywhere("staged"), weights="full")
        whole = runner(family, small_models[family], "float32", "full").phases(job, plan)
        alone = DryRunner(family, small_models[family], "float32")
        parts = {phase: alone.run(job, plan, (phase,)).phases for phase in ("decode", "denoise", "encode")}
        found = [*parts["encode"], *parts["denoise"], *parts["decode"]]
        assert bytes_of(found) == bytes_of(whole)
        assert [run.passes for run in found] == [run.passes for run in whole]
        assert unused(found) == pytest.approx(unused(whole), abs=SMALL_SEGMENT)
        for one, other in zip(found, whole, strict=True):
            assert one.work(3).curve == pytest.approx(other.work(3).curve, rel=1e-9)


OTHERWISE = {"cfg": "batch", "chunk_frames": 2, "chunk_pixels": 300, "decode_frames": 3, "weights": "int8"}


@pytest.mark.parametrize("family", ["nano", "i2vgen_xl"])
@pytest.mark.parametrize("phase", PHASES)
def test_knobs_are_all_that_a_phase_depends_on(small_models, family, phase):
    """Every other decision of the plan changed: the same question, the same bytes and the same work. One of the phase's
    own changed: another question."""
    job, plan = one_step(ALONE, 2.0), replace(plans(family)[1], places=everywhere("staged"))
    dry = runner(family, small_models[family], "float32", "full")
    asked, found = Question.of(family, job, plan, phase), dry.run(job, plan, (phase,)).phases
    others = {name: value for name, value in OTHERWISE.items() if name not in SPECS[family].knobs.get(phase, ())}
    if phase == "denoise":
        del others["weights"]
    changed = replace(plan, **others)
    assert Question.of(family, job, changed, phase) == asked
    again = runner(family, small_models[family], "float32", changed.weights).run(job, changed, (phase,)).phases
    assert bytes_of(again) == bytes_of(found)
    for one, other in zip(again, found, strict=True):
        assert one.work(3).curve == pytest.approx(other.work(3).curve, rel=1e-9)
        assert one.work(3).transfer_bytes == other.work(3).transfer_bytes
    for name in set(OTHERWISE) - set(others):
        assert Question.of(family, job, replace(plan, **{name: OTHERWISE[name]}), phase) != asked


def test_weights_count_on_the_metered_card_as_copies_do_on_the_simulated_one():
    layer = torch.nn.BatchNorm1d(1000)  # with buffers, one of them of integers
    simulated, metered, held = SimulatedCard(2**30), MeteredCard(), []
    for card in (simulated, metered):
        with card.running():
            card.place(layer)
            card.place(layer)
            held.append(card.read_memory().allocated_bytes)
            card.evict(layer)
            assert card.read_memory().allocated_bytes == 0
    assert held[0] == held[1] == 4 * 4 * 1000 + 8
    assert metered.take_work().transfer_bytes == held[0]
    assert metered.take_work().transfer_bytes == 0


@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_counted_as_torch_counts_its_products(masked):
    """torch's own count of the same attention, computed as two products."""

    def attend() -> None:
        query, key = torch.empty(2, 4, 96, 64), torch.empty(2, 4, 77, 64)
        functional.scaled_dot_product_attention(query, key, key, torch.zeros(96, 77) if masked else None)

    with FakeTensorMode(), FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        attend()
    tracker = WorkTracker()
    with FakeTensorMode(), torch.no_grad(), tracker:
        attend()
    assert tracker.work().curve[0] == pytest.approx(counter.get_total_flops(), rel=0.02)  # the mask is filled, too


def test_a_longer_clip_takes_no_more_of_a_dry_run(small_models, monkeypatch):
    rendered, render = [], MotionDecoder.render

    def counted(self, pixels, refined, moment, size):
        rendered.append(round(moment.share * 24))
        return render(self, pixels, refined, moment, size)

    monkeypatch.setattr(MotionDecoder, "render", counted)
    runner("nano", small_models["nano"], "float32", "full").phases(request(32, 48, 24, 1.0), plans("nano")[3])
    assert rendered == [0]


@pytest.mark.parametrize("family", LOADERS)
def test_both_kinds_of_eight_bits_hold_and_do_the_same(small_models, family):
    """So that one question, and one row of the table, is right for both."""
    asked, plan = ALONE, plans(family)[4]
    found = [
        runner(family, small_models[family], "float32", weights).run(asked, replace(plan, weights=weights))
        for weights in LOSSY_WEIGHTS
    ]
    assert bytes_of(found[0].phases) == bytes_of(found[1].phases)
    assert found[0].weights == found[1].weights
    for one, other in zip(found[0].phases, found[1].phases, strict=True):
        assert one.work(3).curve == pytest.approx(other.work(3).curve, rel=1e-9)
    full = runner(family, small_models[family], "float32", "full").run(asked, plan)
    assert found[0].weights["unet"] < 0.5 * full.weights["unet"]
    denoise, denoise_full = (next(p for p in one.phases if p.name == "denoise") for one in (found[0], full))
    assert denoise.work(3).launches > denoise_full.work(3).launches  # widening is work, and counted
