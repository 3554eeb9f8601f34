"""Verdicts that hold: on simulated cards of any size, what fits runs, and what won't fit fails when forced."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from PIL import Image

from i2v.engine.engine import Engine
from i2v.engine.orders import Orders
from i2v.families.i2vgen_xl.checkpoints import build_checkpoint
from i2v.models.entry import ModelEntry
from i2v.plan import Plan
from i2v.planning.dryrun import DryRunner
from i2v.planning.known import Found
from i2v.planning.machine import Machine
from i2v.planning.planner import LOSSY_WEIGHTS, Planner, candidates, stored
from i2v.planning.rates import host_rates
from i2v.request import GenerationRequest
from i2v.units import GIB
from tests.planning.support import job
from tests.planning.test_dryrun import MIDDLE, NANO

BASE = Plan(device="simulated")


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, ModelEntry]:
    middle = build_checkpoint(tmp_path_factory.mktemp("models") / "middle", MIDDLE)
    return {
        family: ModelEntry(family, family, family, folder, None, True, False, 0, None)
        for family, folder in (("nano", NANO), ("i2vgen_xl", middle))
    }


def dry_source(family: str, folder: Path):
    """The exact source, each question run dry once."""
    runner = cache(DryRunner)

    @cache
    def look(request: GenerationRequest, plan: Plan) -> tuple[Found, bool]:
        return runner(family, folder, "float32", plan.weights).run(request, plan), True

    return lambda request, plan: look(request, replace(plan, offload="staged", memory_cap_bytes=None))


def machine(cap_bytes: int) -> Machine:
    return Machine("simulated", host_rates(2), cap_bytes, 64 * GIB, 64 * GIB)


def force(engine: Engine, request: GenerationRequest, plan: Plan, entry: ModelEntry, folder: Path) -> None:
    """Exactly this plan, from the beginning, without stepping down."""
    for kept in folder.glob("*.safetensors"):
        kept.unlink()
    engine.run(
        request, plan, entry=entry, job_folder=folder, emit=lambda event: None, cancelled=lambda: False,
        orders=Orders(heals=False),
    )  # fmt: skip


@pytest.mark.parametrize("family", ["nano", "i2vgen_xl"])
def test_every_verdict_holds_to_the_byte(models, family, tmp_path):
    """A card of just the predicted peak runs the plan; one byte less, and the plan that won't fit indeed does not."""
    source, engine = dry_source(family, models[family].folder), Engine()
    request = replace(job(96, 64, 5, steps=2), image_path="input.png", prompt="zoom in")
    Image.new("RGB", (96, 64), "green").save(tmp_path / "input.png")
    planner = Planner(machine(GIB), source)

    def run(plan: Plan, cap_bytes: int) -> None:
        force(engine, request, replace(plan, memory_cap_bytes=cap_bytes), models[family], tmp_path)

    lossless = tuple(candidates(BASE, ()))[::3]
    for plan in (*lossless, *(stored(lossless[-1], weights) for weights in LOSSY_WEIGHTS)):
        peak = planner.forced(request, plan).peak.peak_bytes
        assert replace(planner, machine=machine(peak)).forced(request, plan).verdict != "wont_fit"
        run(plan, peak)
        assert replace(planner, machine=machine(peak - 1)).forced(request, plan).verdict == "wont_fit"
        with pytest.raises(torch.OutOfMemoryError):
            run(plan, peak - 1)


@pytest.mark.parametrize("family", ["nano", "i2vgen_xl"])
def test_what_is_said_to_fit_runs_under_its_cap(models, family, tmp_path):
    """The planner's own choice over a grid of cards, from one where nothing fits to one where all does."""
    source, engine = dry_source(family, models[family].folder), Engine()
    request = replace(job(64, 96, 5, steps=2), image_path="input.png", prompt="pan left")
    Image.new("RGB", (64, 96), "blue").save(tmp_path / "input.png")
    verdicts = set()
    for mebibytes in (16, 32, 64, 96, 256):
        cap_bytes = mebibytes * 2**20
        planner = Planner(machine(cap_bytes), source)
        planned = planner.plan(request, BASE, look_around=False)
        verdicts.add(planned.prediction.verdict)
        plan = replace(planned.plan, memory_cap_bytes=cap_bytes)
        if planned.prediction.verdict == "wont_fit":
            with pytest.raises(torch.OutOfMemoryError):
                force(engine, request, plan, models[family], tmp_path)
        else:
            force(engine, request, plan, models[family], tmp_path)
    assert {"wont_fit", "fits"} <= verdicts


def test_a_card_too_small_for_whole_weights_runs_under_a_lossy_policy(models, tmp_path):
    """Between what the smallest lossless plan holds and what eight bits do: refused, and then made."""
    source, engine = dry_source("i2vgen_xl", models["i2vgen_xl"].folder), Engine()
    request = replace(job(64, 64, 8, steps=2), image_path="input.png", prompt="pan left")
    Image.new("RGB", (64, 64), "blue").save(tmp_path / "input.png")
    planner = Planner(machine(GIB), source)
    smallest = min(planner.forced(request, plan).peak.peak_bytes for plan in candidates(BASE, ()))
    planner = Planner(machine(smallest - 1), source)
    planned = planner.plan(request, BASE, look_around=False)
    assert planned.prediction.verdict == "wont_fit"
    given_up = planner.give_up(planned, BASE, (), "balanced")
    assert given_up.prediction.verdict != "wont_fit"
    assert given_up.plan.weights == LOSSY_WEIGHTS[0]
    for plan, fits in ((planned.plan, False), (given_up.plan, True)):
        with contextlib.nullcontext() if fits else pytest.raises(torch.OutOfMemoryError):
            force(engine, request, replace(plan, memory_cap_bytes=smallest - 1), models["i2vgen_xl"], tmp_path)
