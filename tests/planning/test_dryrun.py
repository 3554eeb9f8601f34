"""The dry run against real runs of the same code on the same card of host memory: the same bytes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

from i2v.families import SPECS
from i2v.families.base import store_denoiser
from i2v.families.i2vgen_xl.checkpoints import Size, build_checkpoint
from i2v.families.i2vgen_xl.model import load as load_i2vgen_xl
from i2v.families.nano.model import load as load_nano
from i2v.families.nano.warp import MotionDecoder
from i2v.memory.card import SimulatedCard
from i2v.plan import Plan
from i2v.planning.dryrun import DryRunner, MeteredCard, follow
from i2v.planning.known import PhaseRun
from i2v.planning.planner import LOSSY_WEIGHTS
from i2v.request import GenerationRequest

NANO = Path(__file__).parents[2] / "i2v/assets/nano"
MIDDLE = Size(channels=(64, 128, 128, 128), groups=16, head_dim=32, text_dim=64, vae_channels=(32, 64, 64, 64))
PLANS = (
    Plan(),
    Plan(cfg="split", offload="staged"),
    Plan(cfg="split", offload="staged", chunk_frames=4, chunk_pixels=64, decode_frames=2),
    Plan(cfg="split", offload="staged", chunk_frames=1, chunk_pixels=32),
    Plan(cfg="split", offload="staged", chunk_frames=4, chunk_pixels=64, weights="float8", lossless=False),
)
# Many a processor takes fifty times as long for these: the smallest of each has to do.
HALF_PLANS = (
    Plan(chunk_frames=3, chunk_pixels=50, precision="bfloat16"),
    Plan(chunk_frames=2, chunk_pixels=30, precision="bfloat16", weights="int8", lossless=False),
)
EIGHT_BITS = PLANS[-1]
SIZES = ((64, 64, 5, 9.0), (96, 64, 6, 1.0), (64, 96, 7, 4.0))


def request(width: int, height: int, frames: int, guidance: float, steps: int = 2) -> GenerationRequest:
    return GenerationRequest(
        model="any", prompt="a lake", width=width, height=height, num_frames=frames, fps=8,
        num_inference_steps=steps, guidance_scale=guidance, seed=1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    models = tmp_path_factory.mktemp("models")
    small, middle = build_checkpoint(models / "small"), build_checkpoint(models / "middle", MIDDLE)
    return {"nano": NANO, "i2vgen_xl": middle, "small": small}


runner = cache(DryRunner)  # what it learned under one plan serves the next
LOADERS = {"nano": load_nano, "i2vgen_xl": load_i2vgen_xl}


def bytes_of(runs: tuple[PhaseRun, ...]) -> list[tuple[str, tuple[str, ...], int, float]]:
    return [(run.name, run.components, run.activations_bytes, run.work(2).transfer_bytes) for run in runs]


@pytest.mark.parametrize(("family", "plan"), itertools.product(LOADERS, PLANS))
def test_fake_and_real_agree_to_the_byte(folders, family, plan):
    """Thirty settings: two families, five plans, three sizes."""
    agree(family, folders[family], plan, SIZES)


@pytest.mark.parametrize(("family", "plan"), itertools.product(LOADERS, HALF_PLANS))
def test_fake_and_real_agree_in_half_precision(folders, family, plan):
    agree(family, folders["small" if family == "i2vgen_xl" else family], plan, SIZES[:1])


def agree(family: str, folder: Path, plan: Plan, sizes: Sequence[tuple[int, int, int, float]]) -> None:
    real = LOADERS[family](folder, getattr(torch, plan.precision))
    store_denoiser(real, plan.weights)
    dry = runner(family, folder, plan.precision, plan.weights)
    for size in sizes:
        asked = request(*size)
        ran = follow(real, MeteredCard(), asked, plan, steps=asked.num_inference_steps)
        assert bytes_of(dry.phases(asked, plan)) == bytes_of(ran), (size, SPECS[family].title)


@pytest.mark.parametrize(
    ("family", "plan"), [("nano", PLANS[2]), ("i2vgen_xl", EIGHT_BITS)], ids=["nano", "i2vgen_xl-float8"]
)
def test_shortcuts_change_nothing(folders, family, plan):
    """Identical layers replayed or run: the same bytes and the same work."""
    asked = family, folders[family], "float32", plan.weights
    quick = runner(*asked).phases(request(*SIZES[0]), plan)
    long = DryRunner(*asked, shortcuts=False).phases(request(*SIZES[0]), plan)
    assert bytes_of(quick) == bytes_of(long)
    for one, other in zip(quick, long, strict=True):
        assert one.work(3).curve == pytest.approx(other.work(3).curve, rel=1e-9)
        assert one.work(3).launches == pytest.approx(other.work(3).launches, rel=1e-9)


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


def test_a_longer_clip_takes_no_more_of_a_dry_run(monkeypatch):
    rendered, render = [], MotionDecoder.render

    def counted(self, pixels, refined, index):
        rendered.append(index)
        return render(self, pixels, refined, index)

    monkeypatch.setattr(MotionDecoder, "render", counted)
    runner("nano", NANO, "float32").phases(request(64, 64, 24, 1.0), PLANS[2])
    assert rendered == [0, 1, 23]


@pytest.mark.parametrize("family", LOADERS)
def test_both_kinds_of_eight_bits_hold_and_do_the_same(folders, family):
    """So that one question, and one row of the table, is right for both."""
    found = [
        runner(family, folders[family], "float32", weights).run(
            request(*SIZES[0]), replace(EIGHT_BITS, weights=weights)
        )
        for weights in LOSSY_WEIGHTS
    ]
    assert bytes_of(found[0].phases) == bytes_of(found[1].phases)
    assert found[0].weights == found[1].weights
    for one, other in zip(found[0].phases, found[1].phases, strict=True):
        assert one.work(3).curve == pytest.approx(other.work(3).curve, rel=1e-9)
    full = runner(family, folders[family], "float32").run(request(*SIZES[0]), EIGHT_BITS)
    assert found[0].weights["unet"] < 0.5 * full.weights["unet"]
    denoise, denoise_full = (next(p for p in one.phases if p.name == "denoise") for one in (found[0], full))
    assert denoise.work(3).launches > denoise_full.work(3).launches  # widening is work, and counted
