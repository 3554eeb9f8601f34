"""What is foretold of clips longer than a model makes at once: one dry run tells of them all."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from i2v.dryrun.runner import DryRunner
from i2v.families import SPECS
from i2v.families.i2vgen_xl.model import load
from i2v.plan import Plan, everywhere
from i2v.planning.known import PHASES, Found, Known, Question
from i2v.planning.planner import Planner, known_source
from i2v.planning.why import why
from i2v.request import GenerationRequest
from tests.planning.real_runs import assert_same_bytes, bytes_of, follow
from tests.planning.support import runner, simulated_machine

WHOLE = Plan(places=everywhere("staged"), decode_frames=4)
SMALL = Plan(cfg="split", chunk_frames=3, chunk_pixels=5, decode_frames=1, places=everywhere("staged"))
LONG = SPECS["i2vgen_xl"].longer
SAMPLE = LONG.dry_frames(100)


def job(frames: int, guidance: float = 6.0) -> GenerationRequest:
    return GenerationRequest(
        model="any", prompt="a lake", width=24, height=16, num_frames=frames, fps=8, num_inference_steps=2,
        guidance_scale=guidance, seed=1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def dry(small_models) -> DryRunner:
    return runner("i2vgen_xl", small_models["i2vgen_xl"], "float32", "full")


@pytest.fixture(scope="module")
def real(small_models):
    model = load(small_models["i2vgen_xl"], torch.float32)
    follow(model, job(2), WHOLE, steps=1)  # what a first run leaves in caches of its own
    return model


@pytest.mark.parametrize(("plan", "guidance"), [(WHOLE, 6.0), (SMALL, 1.0)], ids=["whole", "small"])
def test_a_dry_run_of_two_windows_is_a_real_run_to_the_byte(dry, real, plan, guidance):
    assert_same_bytes(dry.phases(job(SAMPLE, guidance), plan), follow(real, job(SAMPLE, guidance), plan, steps=2))


def test_a_longer_clip_really_holds_what_two_windows_hold_and_works_as_long_as_is_foretold(dry, real):
    """Six windows: the same bytes in every phase, work in proportion."""
    frames = 75
    found = known(dry, job(frames))
    ran = follow(real, job(frames), WHOLE, steps=2)
    held = [(run.name, run.components, run.activations_bytes, run.copies_bytes) for run in ran]
    assert [(run.name, run.components, run.activations_bytes, run.copies_bytes) for run in found.phases] == held
    assert len(LONG.windows(frames)) == 6
    for name in ("denoise", "decode"):
        told, measured = (next(run for run in runs if run.name == name) for runs in (found.phases, ran))
        assert told.work(2).launches == pytest.approx(measured.work(2).launches, rel=0.03)
        assert told.work(2).curve == pytest.approx(measured.work(2).curve, rel=0.03)


def known(dry: DryRunner, request: GenerationRequest, plan: Plan = WHOLE) -> Found:
    """What the planner knows of `request` once that was run dry."""
    knows, found = Known(), dry.run(request, plan)
    knows.add({one: found.part(one.phase) for one in Question.all_of(MODEL, request, plan)})
    return knows.whole(MODEL, request, plan)


MODEL = "i2vgen_xl:small"


def test_shortcuts_change_nothing_of_windows(small_models, dry):
    """A window that attends to anchors is not taken for one that keeps them."""
    long = DryRunner("i2vgen_xl", small_models["i2vgen_xl"], "float32", shortcuts=False).phases(job(SAMPLE), WHOLE)
    for quick in (dry.phases(job(SAMPLE), WHOLE) for _ in range(2)):
        assert bytes_of(quick) == bytes_of(long)
        for one, other in zip(quick, long, strict=True):
            assert one.work(3).curve == pytest.approx(other.work(3).curve, rel=1e-9)
            assert one.passes == other.passes


@pytest.mark.parametrize("phase", PHASES)
def test_all_long_clips_ask_one_question(phase):
    asked = {Question.of(MODEL, job(frames), WHOLE, phase) for frames in (17, 64, 480, 1024)}
    assert len(asked) == 1
    assert len(asked | {Question.of(MODEL, job(frames), WHOLE, phase) for frames in (8, 16)}) == 3


def test_the_planner_knows_every_length_from_one_dry_run_and_says_what_it_costs(dry):
    """Half a minute holds what two windows hold, and takes as many times as long as it has windows."""
    knows, found = Known(), dry.run(job(SAMPLE), WHOLE)
    knows.add({one: found.part(one.phase) for one in Question.all_of(MODEL, job(SAMPLE), WHOLE)})
    planner = Planner(simulated_machine(2**30), known_source(knows, MODEL), spec=SPECS["i2vgen_xl"])
    short, long = (planner.forced(job(frames), WHOLE) for frames in (SAMPLE, 480))
    assert short.exact
    assert long.exact
    assert short.peak.peak_bytes == long.peak.peak_bytes
    seconds = {one.name: one.seconds for one in short.phases}
    windows = len(LONG.windows(480)) / 2
    for one in long.phases:
        share = {"denoise": windows, "decode": 480 / SAMPLE}.get(one.name, 1)
        assert one.seconds == pytest.approx(seconds[one.name] * share, rel=0.05), one.name
    fixed = ("chunk_frames", "chunk_pixels", "decode_frames", "cfg", "offload")
    planned = planner.plan(job(480), replace(WHOLE, device="simulated"), fixed)
    told = next(text for text in why(planned) if text.id == "planning.windows")
    assert told.params == {"windows": len(LONG.windows(480)), "frames": LONG.native_frames}
    shorter = planner.plan(job(SAMPLE), replace(WHOLE, device="simulated"), fixed)
    assert next(text for text in why(shorter) if text.id == "planning.windows").params["windows"] == 2
