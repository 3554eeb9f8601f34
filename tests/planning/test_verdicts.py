"""Verdicts that hold: on simulated cards of any size, what fits runs, and what won't fit fails when forced."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from i2v.engine.engine import Engine
from i2v.engine.orders import Orders
from i2v.models.entry import ModelEntry
from i2v.plan import Plan
from i2v.planning.planner import LOSSY_WEIGHTS, Planner, candidates, stored
from i2v.request import GenerationRequest, first_image
from i2v.units import GIB
from tests.planning.support import dry_source, job, simulated_machine

BASE = Plan(device="simulated")


@pytest.fixture(scope="module")
def models(small_models) -> dict[str, ModelEntry]:
    return {
        family: ModelEntry(family, family, family, folder, None, True, 0, None)
        for family, folder in small_models.items()
    }


def asked_for(prompt: str, steps: int = 1) -> GenerationRequest:
    return replace(job(48, 32, 3, steps), inputs=first_image("input.png"), prompt=prompt)


@pytest.fixture
def picture(tmp_path):
    Image.new("RGB", (48, 32), "green").save(tmp_path / "input.png")


def force(engine: Engine, request: GenerationRequest, plan: Plan, entry: ModelEntry, folder: Path) -> None:
    """Exactly this plan, from the beginning, without stepping down."""
    for kept in folder.glob("*.safetensors"):
        kept.unlink()
    engine.run(
        request, plan, entry=entry, job_folder=folder, emit=lambda event: None, cancelled=lambda: False,
        orders=Orders(heals=False),
    )  # fmt: skip


@pytest.mark.parametrize("family", ["nano", "i2vgen_xl"])
def test_every_verdict_holds_to_the_byte(models, picture, family, tmp_path):
    """A card of just the predicted peak runs the plan; one byte less, and the plan that won't fit indeed does not."""
    source, engine, request = dry_source(family, models[family].folder), Engine(), asked_for("zoom in", 2)
    planner = Planner(simulated_machine(GIB), source)

    def run(plan: Plan, cap_bytes: int) -> None:
        force(engine, request, replace(plan, memory_cap_bytes=cap_bytes), models[family], tmp_path)

    # The fastest; guidance split and weights that come and go; chunks, last those of which this size has several. Both
    # kinds of eight bits hold the same (test_dryrun.py), so each family runs one.
    lossless = tuple(candidates(BASE, ()))
    weights = LOSSY_WEIGHTS[family == "nano"]
    for plan in (lossless[0], lossless[3], lossless[-2], stored(lossless[-1], weights)):
        peak = planner.forced(request, plan).peak.peak_bytes
        assert replace(planner, machine=simulated_machine(peak)).forced(request, plan).verdict != "wont_fit"
        run(plan, peak)
        assert replace(planner, machine=simulated_machine(peak - 1)).forced(request, plan).verdict == "wont_fit"
        with pytest.raises(torch.OutOfMemoryError):
            run(plan, peak - 1)


@pytest.mark.parametrize("family", ["nano", "i2vgen_xl"])
def test_what_is_said_to_fit_runs_under_its_cap(models, picture, family, tmp_path):
    """The planner's own choice over cards from one where nothing fits to one where all does."""
    source, engine, request = dry_source(family, models[family].folder), Engine(), asked_for("zoom in")
    planner = Planner(simulated_machine(GIB), source)
    peaks = sorted({planner.forced(request, plan).peak.peak_bytes for plan in candidates(BASE, ())})
    has_knobs = family != "nano"  # whose chunks save little: it has few cells
    assert len(peaks) > (3 if has_knobs else 1)
    chosen = []
    for cap_bytes in (peaks[0] - 1, *(sum(two) // 2 for two in itertools.pairwise(peaks)), 2 * peaks[-1]):
        planned = replace(planner, machine=simulated_machine(cap_bytes)).plan(request, BASE, look_around=False)
        if planned.plan in chosen:
            continue
        chosen.append(planned.plan)
        plan = replace(planned.plan, memory_cap_bytes=cap_bytes)
        fits = planned.prediction.verdict != "wont_fit"
        assert fits == (cap_bytes > peaks[0])
        with contextlib.nullcontext() if fits else pytest.raises(torch.OutOfMemoryError):
            force(engine, request, plan, models[family], tmp_path)
    assert len(chosen) > (2 if has_knobs else 0)


def test_a_card_too_small_for_whole_weights_runs_under_a_lossy_policy(models, picture, tmp_path):
    """Between what the smallest lossless plan holds and what eight bits do: refused, and then made."""
    entry = models["i2vgen_xl"]
    source, engine, request = dry_source("i2vgen_xl", entry.folder), Engine(), asked_for("zoom in")
    planner = Planner(simulated_machine(GIB), source)
    smallest = min(planner.forced(request, plan).peak.peak_bytes for plan in candidates(BASE, ()))
    planner = Planner(simulated_machine(smallest - 1), source)
    planned = planner.plan(request, BASE, look_around=False)
    assert planned.prediction.verdict == "wont_fit"
    given_up = planner.give_up(planned, BASE, (), "balanced")
    assert given_up.prediction.verdict != "wont_fit"
    assert given_up.plan.weights == LOSSY_WEIGHTS[0]
    for plan, fits in ((planned.plan, False), (given_up.plan, True)):
        with contextlib.nullcontext() if fits else pytest.raises(torch.OutOfMemoryError):
            force(engine, request, replace(plan, memory_cap_bytes=smallest - 1), entry, tmp_path)
