"""LTX-Video with its transformer in a GGUF file, by the authors' names: diffusers' results, foretold to the byte."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import GGUFQuantizationConfig, LTXPipeline, LTXVideoTransformer3DModel
from gguf import GGMLQuantizationType

from i2v.dryrun.runner import DryRunner
from i2v.families.ltx.model import load
from i2v.plan import Plan, everywhere
from tests.gguf_checkpoints import NAME, redrawn, with_gguf
from tests.hunyuan_runs import PLANS, Runs, relative
from tests.ltx_checkpoints import JOB, TRANSFORMER, pipeline_of, stock
from tests.planning.real_runs import assert_same_bytes, follow

# Rows of whole blocks.
WIDE = {**TRANSFORMER, "attention_head_dim": 32, "cross_attention_dim": 128}
KINDS = {
    "attn1.to_v": GGMLQuantizationType.Q8_0, "ff": GGMLQuantizationType.Q4_0, "blocks": GGMLQuantizationType.Q5_1,
    "time_embed": GGMLQuantizationType.BF16,
}  # fmt: skip
REQUEST = replace(JOB, task="t2v", inputs=(), num_inference_steps=2)


def authors_name(name: str) -> str:
    """What the authors call a tensor that diffusers calls `name`."""
    for ours, theirs in (("norm_q", "q_norm"), ("norm_k", "k_norm"), ("time_embed", "adaln_single")):
        name = name.replace(ours, theirs)
    return name.replace("proj_in", "patchify_proj")


@pytest.fixture(scope="module")
def folder(folders, tmp_path_factory) -> Path:
    torch.manual_seed(3)
    copy = shutil.copytree(folders("0.9.0"), tmp_path_factory.mktemp("models") / "gguf")
    return with_gguf(copy, redrawn(LTXVideoTransformer3DModel(**WIDE)), kinds=KINDS, named=authors_name)


def test_latents_are_those_of_diffusers_with_the_same_file(folder, folders, tmp_path):
    pipeline = pipeline_of(LTXPipeline, folders("0.9.0"))
    pipeline.register_modules(
        transformer=LTXVideoTransformer3DModel.from_single_file(
            str(folder / "transformer" / NAME), config=str(folder / "transformer"), dtype=torch.float32,
            quantization_config=GGUFQuantizationConfig(compute_dtype=torch.float32),
        )
    )  # fmt: skip
    theirs = stock(pipeline, REQUEST, "latent")
    run = Runs("ltx", folder, tmp_path)
    for name in ("chunks", "streamed"):
        run(REQUEST, PLANS[name], name)
        assert relative(run.latents(name).flatten(2).transpose(1, 2), theirs) < 1e-5, name


def test_it_is_foretold_to_the_byte(folder):
    long = "water ripples and a lake " * 70
    request = replace(REQUEST, prompt=long, negative_prompt=long)
    plan, model = Plan(places=everywhere("staged"), chunk_tokens=40), load(folder, torch.float32)
    model.modules.load(model.modules)
    assert_same_bytes(DryRunner("ltx", folder, "float32").phases(request, plan), follow(model, request, plan, steps=2))
