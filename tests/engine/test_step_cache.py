"""Blocks that are left out where a step is like the one before: exactly when diffusers' `FirstBlockCache` leaves them
out, with the same numbers; foretold to the byte; and told of."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline, HunyuanVideoPipeline, LTXPipeline
from diffusers.hooks import FirstBlockCacheConfig
from torch import Tensor, nn

from i2v.dryrun.runner import DryRunner
from i2v.engine.cancel import GenerationPaused
from i2v.events import Healed, Noted, Resumed
from i2v.families import SPECS
from i2v.families.base import FamilyModel, denoisers
from i2v.memory.lanes import EarlyLane
from i2v.memory.step_cache import StepCache, streams_of
from i2v.messages import UserError
from i2v.plan import Placement, Plan, everywhere
from i2v.planning.known import Question
from i2v.planning.machine import Machine
from i2v.planning.planner import Planner
from i2v.planning.rates import host_rates
from i2v.request import GenerationRequest
from i2v.units import GIB
from tests import hunyuan_runs, ltx_checkpoints, wan_checkpoints
from tests.faulty_cards import FaultyInPhases
from tests.hunyuan_checkpoints import build_hunyuan
from tests.hunyuan_runs import Runs, pipeline_of, relative
from tests.late_lane import LateLane
from tests.planning.phase_peaks import run as run_phases
from tests.planning.real_runs import assert_same_bytes, bytes_of, follow
from tests.step_caches import cached, told
from tests.wan_checkpoints import KINDS

WAN_JOB = replace(wan_checkpoints.JOB, num_inference_steps=8, num_frames=5)
HUNYUAN_JOB = replace(
    hunyuan_runs.JOB, width=96, height=96, num_frames=5, num_inference_steps=8, true_guidance_scale=3.0,
    negative_prompt="snow falls",
)  # fmt: skip
SIMULATED = Plan(device="simulated", memory_cap_bytes=GIB)
PLANS = {
    "whole": Plan(),
    "chunks": Plan(chunk_tokens=33),
    "streamed": replace(SIMULATED, places=everywhere("streamed"), chunk_tokens=64),
    "half streamed": replace(
        SIMULATED, places=(*everywhere("streamed"), Placement("transformer", "streamed", 100_000, 1))
    ),
}
# Its pipeline asks both passes of guidance in one batch, and decides for both at once; ours decides for each.
LTX_JOB = replace(
    ltx_checkpoints.JOB, task="t2v", inputs=(), width=128, height=128, num_frames=9, num_inference_steps=8,
    guidance_scale=1.0,
)  # fmt: skip


def ltx_latents(pipeline: DiffusionPipeline, request: GenerationRequest, _output: str) -> Tensor:
    return ltx_checkpoints.stock_latents(pipeline, request)


STOCK = {
    "wan": wan_checkpoints.stock, "wan22": wan_checkpoints.stock, "hunyuan_video": hunyuan_runs.stock,
    "ltx": ltx_latents,
}  # fmt: skip
NEVER = 1e-9  # no pass of a run is so like the one before


@dataclass(frozen=True)
class Case:
    """A small checkpoint, a job for it, a share by which some of its passes are cut short and not all, and diffusers'
    own pipeline."""

    family: str
    folder: Path
    job: GenerationRequest
    share: float
    pipeline: DiffusionPipeline

    def load(self) -> FamilyModel:
        model = importlib.import_module(f"i2v.families.{self.family}.model").load(self.folder, torch.float32)
        model.modules.load(model.modules)
        return model

    def theirs(self, share: float | None) -> tuple[Tensor, int]:
        """diffusers' latents with its own cache, and how often it computed the last block's attention."""
        networks = [network for name in ("transformer", "transformer_2") if (network := self._network(name))]
        counted: list[int] = []
        with counting(networks, counted), cached(networks, share):
            stock = STOCK[self.family]
            more = {"guidance_scale_2": 1 + (self.job.guidance_scale - 1) * 2 / 3} if len(networks) > 1 else {}
            return stock(self.pipeline, self.job, "latent", **more), len(counted)

    def _network(self, name: str) -> nn.Module | None:
        return self.pipeline.components.get(name)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> dict[str, Case]:
    models = tmp_path_factory.mktemp("models")
    wan, hunyuan = wan_checkpoints.build_wan(models / "wan"), build_hunyuan(models / "hunyuan")
    ltx = ltx_checkpoints.build_ltx(models / "ltx", "0.9.0")
    experts = wan_checkpoints.build(models / "wan22", KINDS["wan22"])
    return {
        "wan": Case("wan", wan, WAN_JOB, 0.13, pipeline_from(wan)),
        "wan22": Case("wan22", experts, WAN_JOB, 0.13, pipeline_from(experts)),
        "ltx": Case("ltx", ltx, LTX_JOB, 0.1, ltx_checkpoints.pipeline_of(LTXPipeline, ltx)),
        "hunyuan_video": Case(
            "hunyuan_video", hunyuan, HUNYUAN_JOB, 0.25, pipeline_of(HunyuanVideoPipeline, hunyuan)
        ),
    }  # fmt: skip


def pipeline_from(folder: Path) -> DiffusionPipeline:
    pipeline = DiffusionPipeline.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@contextmanager
def counting(networks: Sequence[nn.Module], counted: list[int]) -> Iterator[None]:
    """Adds to `counted` for every time that the last block of one of `networks` is computed."""
    names = ("single_transformer_blocks", "transformer_blocks", "blocks")
    lasts = [next(getattr(network, name) for name in names if hasattr(network, name)) for network in networks]
    attentions = [getattr(blocks[-1], "attn", None) or blocks[-1].attn1 for blocks in lasts]
    hooks = [one.register_forward_hook(lambda *_: counted.append(1)) for one in attentions]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@pytest.mark.parametrize(
    ("name", "way"),
    [*(("wan", way) for way in PLANS), *product(("hunyuan_video", "ltx"), ("chunks", "half streamed"))],
)
def test_latents_are_diffusers_own_with_its_cache(cases, tmp_path, name, way):
    case, plan = cases[name], PLANS[way]
    run = Runs(case.family, case.folder, tmp_path)
    theirs, computed = case.theirs(case.share)
    shortened, passes = told(run(case.job, replace(plan, step_cache=case.share)))
    assert relative(run.latents(), theirs) < 1e-5
    each = 1 if name == "ltx" else 2
    assert (passes, passes - shortened) == (each * case.job.num_inference_steps, computed)
    assert 0 < shortened < passes - 2


def test_each_of_two_experts_begins_anew(cases, tmp_path):
    case, share = cases["wan22"], 5.0  # all but the first step of each: two networks are less alike than any two steps
    run = Runs(case.family, case.folder, tmp_path)
    theirs, computed = case.theirs(share)
    shortened, passes = told(run(case.job, Plan(step_cache=share)))
    assert relative(run.latents(), theirs) < 1e-5
    assert passes - shortened == computed == 4


@pytest.mark.parametrize("name", ["wan", "hunyuan_video"])
def test_where_nothing_is_alike_it_is_as_without(cases, tmp_path, name):
    case = cases[name]
    run = Runs(case.family, case.folder, tmp_path)
    assert told(run(case.job, Plan(), "without")) is None
    assert told(run(case.job, Plan(step_cache=NEVER), "with")) == (0, 2 * case.job.num_inference_steps)
    assert torch.equal(run.latents("with"), run.latents("without"))


def test_a_resumed_run_begins_with_an_empty_cache_and_counts_its_own_passes(cases, tmp_path):
    case = cases["wan"]
    run = Runs(case.family, case.folder, tmp_path)
    plan = Plan(step_cache=0.9)  # all but the first step of a run
    with pytest.raises(GenerationPaused):
        run(case.job, plan, stop_at=3)
    events = run(case.job, plan)
    assert [event.step for event in events if isinstance(event, Resumed)] == [3]
    assert told(events) == (2 * 4, 2 * 5)


def test_a_run_that_runs_out_of_memory_goes_on_with_an_empty_cache(cases, tmp_path):
    case = cases["wan"]
    run = Runs(case.family, case.folder, tmp_path)
    card = FaultyInPhases(lambda: run.events, [("denoise", 3)])
    events = run(case.job, replace(SIMULATED, step_cache=0.9), card=card)
    assert [event.step for event in events if isinstance(event, Healed)] == [3]
    assert told(events) == (2 * 4, 2 * 5)


def test_progress_of_another_share_is_not_gone_on_with(cases, tmp_path):
    case = cases["wan"]
    run = Runs(case.family, case.folder, tmp_path)
    with pytest.raises(GenerationPaused):
        run(case.job, Plan(step_cache=0.9), stop_at=2)
    events = run(case.job, Plan(step_cache=0.5))
    assert not any(isinstance(event, Resumed) for event in events)
    assert "engine.checkpoint_other_precision" in [one.message.id for one in events if isinstance(one, Noted)]


@pytest.mark.parametrize("tokens", [0, 40])
@pytest.mark.parametrize("name", ["wan", "wan22", "hunyuan_video", "ltx"])
def test_what_is_kept_is_foretold_to_the_byte(cases, name, tokens):
    case, plan = cases[name], Plan(places=everywhere("staged"), chunk_tokens=tokens, step_cache=NEVER)
    job = as_long_as_dry_runs(case)
    dry = DryRunner(case.family, case.folder, "float32")
    without = dry.phases(job, replace(plan, step_cache=0.0))
    found = [dry.phases(job, plan) for _ in range(2)]
    model = case.load()
    assert_same_bytes(found[0], follow(model, job, plan, steps=3))
    assert bytes_of(found[1]) == bytes_of(found[0])
    assert bytes_of(dry.phases(job, replace(plan, step_cache=0.0))) == bytes_of(without)
    alone = DryRunner(case.family, case.folder, "float32", shortcuts=False).phases(job, plan)
    assert bytes_of(alone) == bytes_of(found[0])
    more = [held(one) - held(other) for one, other in zip(found[0], without, strict=True)]
    denoising = [one.name for one in without if one.name.startswith("denoise")]
    assert [one.name for one, kept in zip(without, more, strict=True) if kept > 0] == denoising
    short = follow(model, job, replace(plan, step_cache=0.9), steps=3)  # passes that are cut short hold no more
    assert all(held(one) <= held(other) for one, other in zip(short, found[0], strict=True))
    assert model.step_cache.shortened > 0
    assert not model.step_cache._kept


def held(run) -> int:
    return run.activations_bytes


def as_long_as_dry_runs(case: Case) -> GenerationRequest:
    """With as long sentences as there can be: that is what a dry run has."""
    long = "water ripples and a lake " * 110
    return replace(case.job, prompt=long, negative_prompt=long, num_inference_steps=3)


class CountingLane(EarlyLane):
    copies = 0

    def copy(self, pairs, after):
        CountingLane.copies += 1
        return super().copy(pairs, after)


def test_streamed_is_resident_and_holds_what_was_said(cases):
    case = cases["wan"]
    model, job = case.load(), as_long_as_dry_runs(case)
    dry = DryRunner("wan", case.folder, "float32")
    machine = Machine("simulated", host_rates(2), GIB, 64 * GIB, 64 * GIB)
    planner = Planner(machine, lambda request, plan: (dry.run(request, plan), True))
    wanted, _ = run_phases(model, job, Plan(device="simulated", chunk_tokens=40, step_cache=NEVER))
    for kept, slots, lane in ((0, 2, LateLane), (1_000_000, 1, EarlyLane)):
        places = (*everywhere("streamed"), Placement("transformer", "streamed", kept, slots))
        plan = Plan(device="simulated", places=places, chunk_tokens=40, step_cache=NEVER)
        latents, peaks = run_phases(model, job, plan, lane)
        assert torch.equal(latents, wanted)
        assert peaks == {phase.name: phase.peak_bytes for phase in planner.forced(job, plan).phases}


def test_blocks_that_are_left_out_do_not_come_to_the_card(cases):
    case = cases["wan"]
    model, job = case.load(), case.job
    copies = {}
    for share in (NEVER, 0.9):
        plan = Plan(device="simulated", places=everywhere("streamed"), step_cache=share)
        CountingLane.copies = 0
        run_phases(model, job, plan, CountingLane)
        copies[share] = CountingLane.copies
    # Of four blocks the first comes, and so many more as run ahead.
    assert copies[0.9] <= copies[NEVER] - 14 * 1
    assert model.step_cache.shortened == 14


def test_what_no_cache_knows_is_refused_with_its_blocks_named():
    blocks = [nn.Linear(2, 2), nn.Linear(2, 2)]
    with pytest.raises(UserError, match="Linear"), StepCache(0.1).used(nn.Sequential(*blocks), blocks, "prompt"):
        pass
    with StepCache(0.0).used(nn.Sequential(*blocks), blocks, "prompt"):
        pass


def test_what_is_kept_is_a_question_of_its_own_and_the_share_is_none(cases):
    case = cases["wan"]
    asked = [Question.of("wan", case.job, Plan(step_cache=share), "denoise") for share in (0.0, 0.1, 0.2)]
    assert asked[0] != asked[1] == asked[2]
    decoded = {Question.of("wan", case.job, Plan(step_cache=share), "decode") for share in (0.0, 0.1)}
    assert len(decoded) == 1


@pytest.mark.parametrize("family", ["wan", "hunyuan_video", "ltx", "ltx2", "minimax_h3", "cogvideox"])
def test_families_say_of_their_blocks_what_diffusers_does(family):
    """Its hooks, counted after the cache was enabled: one for each block, or it refuses."""
    dry = DryRunner(family, None, "bfloat16")
    (name,) = denoisers(dry.model)
    network, blocks = dry.model.modules[name], dry.model.blocks[name](dry.model.modules[name])
    if SPECS[family].step_cache:
        network.enable_cache(FirstBlockCacheConfig(threshold=0.1))
        assert all(block._diffusers_hook.hooks for block in blocks)
        assert streams_of(blocks) == (1 if family in ("wan", "ltx") else 2)
        return
    with pytest.raises(ValueError, match="not registered"):
        network.enable_cache(FirstBlockCacheConfig(threshold=0.1))
    with pytest.raises(UserError):
        streams_of(blocks)


def test_all_of_a_class_can_or_none():
    by_network = {"wan": True, "hunyuan": True, "framepack": True, "ltx": True, "cogvideox": True}
    for name, spec in SPECS.items():
        able = by_network.get(name.split("_")[0].removesuffix("22"), False) and not name.startswith("hunyuan_video_15")
        assert spec.step_cache == able
