"""Schedulers that a person may choose for Wan: diffusers' own pipeline with the same scheduler, and the same whether a
run is laid down after any of its steps or not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import WanPipeline

from i2v.families.base import Inputs
from i2v.families.wan.model import Wan, load
from i2v.families.wan.spec import SPEC
from i2v.request import GenerationRequest
from tests.going_on import THEIRS, encoded, gone_on_with, stepped
from tests.hunyuan_runs import relative
from tests.wan_checkpoints import stock


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> Wan:
    return load(checkpoint, torch.float32)


@pytest.mark.parametrize("name", SPEC.scheduler_steps)
def test_every_scheduler_is_diffusers_own_and_goes_on_after_any_step(
    pipeline: WanPipeline, model: Wan, job: GenerationRequest, tmp_path: Path, name: str
) -> None:
    request, own = replace(job, scheduler=name), pipeline.scheduler
    cls, settings = THEIRS[name]
    shift = {"shift" if name == "flow_euler" else "flow_shift": own.config.flow_shift}
    pipeline.scheduler = cls.from_config(own.config, **settings, **shift)
    try:
        wanted = stock(pipeline, request, "latent")
    finally:
        pipeline.scheduler = own
    latents = gone_on_with(model, request, encoded(model, request, Inputs()), tmp_path)
    assert relative(latents, wanted) < 1e-4


def test_the_checkpoints_own_scheduler_goes_on_after_any_step_and_has_a_name(model, job, tmp_path) -> None:
    conditioning = encoded(model, job, Inputs())
    own = gone_on_with(model, job, conditioning, tmp_path)
    named = stepped(model, replace(job, scheduler="flow_unipc"), conditioning)[-1].latents
    assert torch.equal(own, named)
