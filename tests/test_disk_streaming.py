"""A model that RAM does not hold, run under a cap of the kernel's: `bench.disk_streaming` with a model of 480 MiB."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bench import disk_streaming
from bench.disk_streaming import CARD_BYTES, RESIDENT, SMALL, Ran, beyond, checkpoint, command, forget, read
from bench.memory_group import MemoryGroup, memory_group
from i2v.engine.checkpoint import LATENTS
from i2v.hardware.disk import measured_read_rate
from i2v.plan import PhasePrediction, Plan, Prediction, everywhere
from i2v.units import GIB
from tests.latents import load_latents
from tests.warm_support import shared

CAP_BYTES = 360 * 2**20
STREAMED = Plan(device="simulated", places=everywhere("streamed"), memory_cap_bytes=CARD_BYTES)
ON_PROCESSOR = Plan(device="cpu", places=everywhere("streamed"))
PREDICTION = Prediction(
    (PhasePrediction("denoise", 0, 0, 0, 0, 40.0), PhasePrediction("decode", 0, 0, 0, 0, 1.0)), 0, 0, 0, 0, 0, 0, 0,
    load_seconds=10.0,
)  # fmt: skip
RAN = Ran({"load": 1.0, "denoise": 49.0}, {}, [20.0, 20.0], 0, CAP_BYTES)


@pytest.fixture
def group() -> Iterator[MemoryGroup]:
    with memory_group("test-disk-streaming") as made:
        if made is None:
            pytest.skip("no control group may be made here")
        yield made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("streaming") / "small", SMALL)


@pytest.mark.parametrize(
    ("plan", "roomy", "least_share"),
    [(STREAMED, RESIDENT, 0.9), (ON_PROCESSOR, Plan(device="cpu"), 0.5)],
    ids=["card", "processor"],
)
def test_a_model_streams_from_the_disk_within_its_cap_and_comes_to_the_same(
    group: MemoryGroup, folder: Path, plan: Plan, roomy: Plan, least_share: float, tmp_path: Path
):
    files = disk_streaming.weights(folder)
    size = sum(file.stat().st_size for file in files)
    assert size > CAP_BYTES
    group.limit(CAP_BYTES)
    if measured_read_rate(files) is None:
        pytest.skip("these files are on no disk")
    for file in files:
        forget(file)
    for name, one, within in (("streamed", plan, group), ("roomy", roomy, None)):
        words = command(folder, one, tmp_path / name, within)
        assert shared().start(words, os.environ, {0: 0, 1: 1, 2: 2}).wait(120) == 0
    streamed = read(tmp_path / "streamed", group)
    assert streamed.peak_bytes is not None
    assert CAP_BYTES / 2 < streamed.peak_bytes <= CAP_BYTES
    # By the same processor: where weights begin in memory changes the last bit of a product.
    latents = [load_latents(tmp_path / name / LATENTS) for name in ("streamed", "roomy")]
    assert torch.equal(*latents)
    # The system keeps what was used last, and blocks come round in order; a part of what was used often it keeps too.
    assert streamed.read_bytes > least_share * size * len(streamed.step_seconds)


@pytest.mark.parametrize(
    ("ran", "equal", "faults"),
    [
        (RAN, True, 0),
        (RAN, False, 1),
        (replace(RAN, seconds={"load": 0.1, "denoise": 40.0}), True, 0),
        (replace(RAN, seconds={"load": 0.0, "denoise": 39.9}), True, 1),
        (replace(RAN, seconds={"load": 20.0, "denoise": 46.7}), True, 1),
        (replace(RAN, peak_bytes=GIB), True, 1),
        (replace(RAN, peak_bytes=None), False, 2),
    ],
)
def test_what_is_not_as_it_should_be_is_said(ran: Ran, equal: bool, faults: int):
    assert len(beyond(ran, PREDICTION, CAP_BYTES, equal=equal)) == faults
