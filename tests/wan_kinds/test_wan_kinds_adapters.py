"""LoRAs of Wan 2.2 come in pairs: each goes on the expert that its name says, as diffusers loads it there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from i2v.plan import Plan
from i2v.request import Adapter
from tests.hunyuan_runs import Runs, relative
from tests.lora_files import MUSUBI, named, pairs
from tests.wan_checkpoints import JOB, KINDS
from tests.wan_kinds.conftest import made_by, pipeline_of


def test_each_expert_gets_its_own(folders, tmp_path: Path) -> None:
    checkpoint = folders("wan22")
    pipeline = pipeline_of(KINDS["wan22"], checkpoint)
    width = pipeline.transformer.config.num_attention_heads * pipeline.transformer.config.attention_head_dim
    layers = {f"blocks.{number}.self_attn.{name}": (width, width) for number in range(4) for name in "qkvo"}
    files = {}
    for seed, noise in enumerate(("high", "low")):
        files[noise] = tmp_path / f"walk_{noise}_noise.safetensors"
        save_file(named(pairs(layers, 4, seed), MUSUBI), files[noise])
    request = replace(JOB, num_frames=5, num_inference_steps=4)
    adapters = tuple(Adapter(str(file), 0.7) for file in files.values())
    run = Runs("wan22", checkpoint, tmp_path)
    plain = made_by(pipeline, request, "latent")
    pipeline.load_lora_weights(files["high"], adapter_name="high")
    pipeline.load_lora_weights(files["low"], adapter_name="low", load_into_transformer_2=True)
    pipeline.transformer.set_adapters(["high"], [0.7])
    pipeline.transformer_2.set_adapters(["low"], [0.7])
    wanted = made_by(pipeline, request, "latent")
    run(replace(request, adapters=adapters), Plan(chunk_tokens=100))
    assert relative(run.latents(), wanted) < 1e-5
    assert relative(plain, wanted) > 1e-2
    run(replace(request, adapters=adapters[:1]), Plan(), "high alone")
    assert not torch.equal(run.latents("high alone"), run.latents())
    run(request, Plan(), "neither")
    assert relative(run.latents("neither"), plain) < 1e-5
