"""Another flow shift than the checkpoint's: diffusers' own pipeline with the scheduler that its configuration makes
with that shift, and the same whether a run is laid down after any of its steps or not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideoPipeline,
    LTXPipeline,
    MiniMaxH3Scheduler,
    SchedulerMixin,
    UniPCMultistepScheduler,
    WanPipeline,
)
from diffusers.pipelines.ltx2.utils import DISTILLED_SIGMA_VALUES, STAGE_2_DISTILLED_SIGMA_VALUES
from torch import Tensor

from i2v.families.base import FamilyModel, Inputs
from i2v.families.ltx2.schedules import schedule
from i2v.families.ltx2.skeleton import scheduler
from i2v.families.schedulers import begun, begun_flow
from i2v.request import GenerationRequest
from tests import hunyuan_runs, ltx_checkpoints, minimax_h3_checkpoints, wan_checkpoints
from tests.going_on import FLOW, encoded, gone_on_with, stepped
from tests.hunyuan_checkpoints import build_hunyuan
from tests.hunyuan_runs import pipeline_of, relative

SHIFT = 6.0
STEPS = {"num_inference_steps": 4, "guidance_scale": 1.0, "num_frames": 9, "task": "t2v", "inputs": ()}


def wan(folder: Path, request: GenerationRequest) -> Tensor:
    pipeline = WanPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.scheduler = UniPCMultistepScheduler.from_config(pipeline.scheduler.config, flow_shift=SHIFT)
    return wan_checkpoints.stock(pipeline, request, "latent")


def ltx(folder: Path, request: GenerationRequest) -> Tensor:
    pipeline = ltx_checkpoints.pipeline_of(LTXPipeline, folder)
    assert pipeline.scheduler.config.use_dynamic_shifting
    pipeline.scheduler = FlowMatchEulerDiscreteScheduler.from_config(
        pipeline.scheduler.config, use_dynamic_shifting=False, shift=SHIFT
    )
    return ltx_checkpoints.stock_latents(pipeline, request)


def hunyuan(folder: Path, request: GenerationRequest) -> Tensor:
    pipeline = pipeline_of(HunyuanVideoPipeline, folder)
    pipeline.scheduler = FlowMatchEulerDiscreteScheduler.from_config(pipeline.scheduler.config, shift=SHIFT)
    return pipeline(
        prompt=request.prompt, width=request.width, height=request.height, num_frames=request.num_frames,
        num_inference_steps=request.num_inference_steps, guidance_scale=request.guidance_scale,
        generator=torch.Generator().manual_seed(request.seed), output_type="latent",
    ).frames  # fmt: skip


def minimax(folder: Path, request: GenerationRequest) -> Tensor:
    pipeline = minimax_h3_checkpoints.pipeline_of(folder)
    pipeline.update_components(scheduler=MiniMaxH3Scheduler(shift=SHIFT))
    state = minimax_h3_checkpoints.stock(pipeline, request, {})
    return torch.cat([one.flatten() for one in minimax_h3_checkpoints.latents_of(state)])


def of_minimax(model: Any, latents: Tensor, request: GenerationRequest) -> Tensor:
    """Pictures and sound, as diffusers has them."""
    layout = model.layout(request)
    _, frames, sounds = layout.parted(latents)
    return torch.cat([layout.as_frames(frames).flatten(), layout.as_sound(sounds).flatten()])


def build_wan22(folder: Path) -> Path:
    """Of two experts, between which the shift divides the steps."""
    return wan_checkpoints.build(folder, wan_checkpoints.KINDS["wan22"])


def build_ltx(folder: Path) -> Path:
    return ltx_checkpoints.build_ltx(folder, "0.9.0")


def as_they_are(model: FamilyModel, latents: Tensor, request: GenerationRequest) -> Tensor:
    return latents


@dataclass(frozen=True)
class Case:
    """A family: its small checkpoint, a request, diffusers' latents of it, and ours as diffusers has them."""

    build: Callable[[Path], Path]
    job: GenerationRequest
    theirs: Callable[[Path, GenerationRequest], Tensor]
    ours: Callable[[Any, Tensor, GenerationRequest], Tensor] = as_they_are


CASES = {
    "wan": Case(wan_checkpoints.build_wan, replace(wan_checkpoints.JOB, **STEPS), wan),
    "wan22": Case(build_wan22, replace(wan_checkpoints.JOB, **STEPS), wan),
    "ltx": Case(build_ltx, replace(ltx_checkpoints.JOB, **STEPS), ltx),
    "hunyuan_video": Case(build_hunyuan, replace(hunyuan_runs.JOB, **STEPS), hunyuan),
    "minimax_h3": Case(
        minimax_h3_checkpoints.build_minimax_h3,
        replace(minimax_h3_checkpoints.JOB, **{**STEPS, "num_frames": 124, "width": 64}),
        minimax,
        of_minimax,
    ),
}


@pytest.mark.parametrize("family", CASES)
def test_another_shift_is_diffusers_own_and_goes_on_after_any_step(family: str, tmp_path: Path) -> None:
    case = CASES[family]
    folder, request = case.build(tmp_path / "model"), replace(case.job, flow_shift=SHIFT)
    model = import_module(f"i2v.families.{family}.model").load(folder, torch.float32)
    conditioning = encoded(model, request, Inputs())
    latents = gone_on_with(model, request, conditioning, tmp_path)
    assert relative(case.ours(model, latents, request), case.theirs(folder, request)) < 1e-5
    # The next run of the same model has its own again.
    own = stepped(model, case.job, conditioning)[-1].latents
    fresh = import_module(f"i2v.families.{family}.model").load(folder, torch.float32)
    assert torch.equal(own, stepped(fresh, case.job, conditioning)[-1].latents)
    assert relative(own, latents) > 1e-3


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("flow_euler", FlowMatchEulerDiscreteScheduler(shift=SHIFT)),
        ("flow_unipc", UniPCMultistepScheduler(flow_shift=SHIFT, **FLOW)),
        ("flow_dpmpp_2m", DPMSolverMultistepScheduler(flow_shift=SHIFT, **FLOW)),
    ],
)
def test_a_chosen_scheduler_has_the_shift_too(name: str, wanted: SchedulerMixin) -> None:
    """Whatever the family says of its own."""
    request = replace(wan_checkpoints.JOB, scheduler=name, num_inference_steps=5, flow_shift=SHIFT)
    wanted.set_timesteps(5)
    found = begun(request, UniPCMultistepScheduler(flow_shift=3.0, **FLOW), shift=3.0, flow_shift=3.0)
    assert torch.equal(found.timesteps, wanted.timesteps)
    assert torch.equal(found.sigmas, wanted.sigmas)


@pytest.mark.parametrize("dynamic", [False, True])
def test_whatever_a_family_would_shift_by_the_one_that_is_asked_for_counts(dynamic: bool) -> None:
    """As FramePack's by size, HunyuanVideo's for small pictures and that of 1.5."""
    own = FlowMatchEulerDiscreteScheduler(shift=7.0, use_dynamic_shifting=dynamic)
    request = replace(hunyuan_runs.JOB, num_inference_steps=5, flow_shift=SHIFT)
    even = torch.linspace(1, 0, 6)
    found = begun_flow(request, own, shift=2.5, begin=1.0)
    assert torch.allclose(found.sigmas, SHIFT * even / (1 + (SHIFT - 1) * even))


def test_eight_steps_of_ltx2_with_a_shift_are_no_longer_those_of_distilled_weights() -> None:
    """Those of a second stage are, whatever the first was asked for."""
    own, second = scheduler(), torch.tensor([*STAGE_2_DISTILLED_SIGMA_VALUES, 0.0])
    for shift, sigmas in ((None, DISTILLED_SIGMA_VALUES), (SHIFT, None)):
        request = replace(hunyuan_runs.JOB, num_inference_steps=8, guidance_scale=1.0, flow_shift=shift)
        wanted = FlowMatchEulerDiscreteScheduler.from_config(
            own.config, use_dynamic_shifting=False, **({"shift": SHIFT} if shift else {"shift_terminal": None})
        )
        wanted.set_timesteps(sigmas=sigmas or np.linspace(1, 1 / 8, 8))
        assert torch.allclose(schedule(own, request, 1000).sigmas, wanted.sigmas)
        twice = schedule(own, replace(request, two_stages=True), 1000)
        assert torch.allclose(twice.sigmas, torch.cat([wanted.sigmas, second]))
