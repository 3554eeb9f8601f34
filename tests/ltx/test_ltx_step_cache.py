"""LTX-Video with steps cut short: diffusers' latents with its own cache. With guidance diffusers asks once for both
answers, and cuts short either both or none."""

from __future__ import annotations

from dataclasses import replace

import pytest
from diffusers import FirstBlockCacheConfig, LTXPipeline

from i2v.events import Noted
from i2v.plan import Plan
from tests.hunyuan_runs import PLANS, Runs, relative
from tests.ltx_checkpoints import JOB, pipeline_of, stock

REQUEST = replace(JOB, task="t2v", inputs=(), num_inference_steps=8, guidance_scale=1.0, num_frames=9)
SHARE = 0.1  # by which some of its steps are cut short and not all


@pytest.mark.parametrize("plan", ["chunks", "streamed"])
def test_latents_are_diffusers_own_with_its_cache(folders, tmp_path, plan):
    pipeline, counted = pipeline_of(LTXPipeline, folders("0.9.0")), []
    pipeline.transformer.transformer_blocks[-1].attn1.register_forward_hook(lambda *_: counted.append(1))
    pipeline.transformer.enable_cache(FirstBlockCacheConfig(threshold=SHARE))
    theirs = stock(pipeline, REQUEST, "latent")
    run = Runs("ltx", folders("0.9.0"), tmp_path)
    events = run(REQUEST, replace(PLANS[plan], step_cache=SHARE))
    assert relative(run.latents().flatten(2).transpose(1, 2), theirs) < 1e-5
    (told,) = [one.message for one in events if isinstance(one, Noted) and one.message.id == "engine.step_cache"]
    assert told.params["passes"] - told.params["shortened"] == len(counted)
    assert 0 < told.params["shortened"] < REQUEST.num_inference_steps - 1


def test_each_answer_has_a_cache_of_its_own(folders, tmp_path):
    run = Runs("ltx", folders("0.9.0"), tmp_path)
    request = replace(REQUEST, guidance_scale=3.0)
    run(request, Plan(), "without")
    run(request, Plan(step_cache=1e-9), "with")
    assert relative(run.latents("with"), run.latents("without")) == 0
