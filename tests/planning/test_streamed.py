"""Streamed runs of real models on the simulated card: the latents of a resident run bit for bit, within the bytes that
the planner said, to the byte."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest
import torch

from i2v.dryrun.runner import blocks_of
from i2v.memory.lanes import EarlyLane
from i2v.memory.streaming import parted
from i2v.plan import Placement, Plan, everywhere
from i2v.planning.machine import Machine
from i2v.planning.planner import Planner
from i2v.planning.rates import host_rates
from i2v.units import GIB
from tests.late_lane import LateLane
from tests.planning.phase_peaks import run
from tests.planning.support import job, runner

FAMILIES = ("nano", "i2vgen_xl")
CHUNKS = {"cfg": "split", "chunk_frames": 1, "chunk_pixels": 48}
REQUEST = replace(job(48, 32, 3, 2), prompt="zoom in")


@cache
def loaded(family: str, folder: Path):
    return import_module(f"i2v.families.{family}.model").load(folder, torch.float32)


@pytest.mark.parametrize("family", FAMILIES)
def test_streamed_is_resident_and_holds_what_was_said(small_models, family):
    folder = small_models[family]
    model = loaded(family, folder)
    wanted, _ = run(model, REQUEST, Plan(device="simulated"))
    chunked, _ = run(model, REQUEST, Plan(device="simulated", **CHUNKS))
    machine = Machine("simulated", host_rates(2), GIB, 64 * GIB, 64 * GIB)
    dry = runner(family, folder, "float32", "full")
    planner = Planner(machine, lambda request, plan: (dry.run(request, plan), True))
    sizes = parted(model.unet, model.blocks["unet"](model.unet)).sizes_bytes
    for kept, slots, lane, chunks in (
        (0, 2, LateLane, {}),
        (0, 1, EarlyLane, CHUNKS),
        (sum(sizes) // 3, 2, EarlyLane, {}),
        (sum(sizes) // 2, 3, LateLane, CHUNKS),
        (sum(sizes), 2, LateLane, {}),
    ):
        places = (*everywhere("streamed"), Placement("unet", "streamed", kept, slots))
        plan = Plan(device="simulated", places=places, **chunks)
        latents, peaks = run(model, REQUEST, plan, lane)
        assert torch.equal(latents, chunked if chunks else wanted)
        said = planner.forced(REQUEST, plan)
        assert peaks == {phase.name: phase.peak_bytes for phase in said.phases}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_large_layer_is_in_a_block(small_models, family):
    """What is in no block stays on the card: words' embeddings, and little else. None is so large that a slot for it
    would be what is saved."""
    skeleton = import_module(f"i2v.families.{family}.skeleton")
    model = runner(family, skeleton.CONFIGS, "float16", "full").model
    for name, modules in blocks_of(model).items():
        module = model.modules[name]
        parts = parted(module, modules)
        whole = parts.outside_bytes + sum(parts.sizes_bytes)
        embeddings = [part.weight for part in module.modules() if isinstance(part, torch.nn.Embedding)]
        assert parts.outside_bytes - sum(one.nbytes for one in embeddings) <= 0.011 * whole, (name, parts.outside_bytes)
        assert max(parts.sizes_bytes) <= whole / 4, name
