"""LoRAs on CogVideoX: on every linear layer, as diffusers computes them; and steps cut short by its cache."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import CogVideoXTransformer3DModel, FirstBlockCacheConfig
from safetensors.torch import save_file
from torch import nn

from i2v.events import Noted
from i2v.families import SPECS
from i2v.families.lora_names import COGVIDEOX, lora_tensor
from i2v.models.adapters import check_adapter
from i2v.plan import Plan
from i2v.request import Adapter
from tests.cogvideox_checkpoints import TRANSFORMERS, job_of, pipeline_of, stock
from tests.hunyuan_runs import PLANS, Runs, relative
from tests.lora_files import named, pairs

RANK = 3
SHARE = 0.3  # by which some of its steps are cut short and not all
ONE = pytest.mark.parametrize("family", ["cogvideox_5b"], indirect=True)


def linear_layers(family: str) -> dict[str, tuple[int, int]]:
    """All of the transformer: (out, in)."""
    with torch.device("meta"):
        network = CogVideoXTransformer3DModel(**TRANSFORMERS[family])
    layers = ((name, one) for name, one in network.named_modules() if isinstance(one, nn.Linear))
    return {name: tuple(one.weight.shape) for name, one in layers}


@pytest.mark.parametrize("family", ["cogvideox", "cogvideox_15_i2v"])
def test_every_linear_layer_has_a_name(family):
    for layer in linear_layers(family):
        assert COGVIDEOX.layer(layer) == layer
        assert lora_tensor(f"transformer.{layer}.lora_A.weight").layer == layer


@ONE
def test_a_run_with_one_is_diffusers_own(family: str, checkpoint: Path, tmp_path: Path) -> None:
    file = tmp_path / "one.safetensors"
    save_file(named(pairs(linear_layers(family), RANK, 5)), file)
    check_adapter(file, SPECS[family])
    run, pipeline = Runs(family, checkpoint, tmp_path), pipeline_of(family, checkpoint)
    request = job_of(family, num_inference_steps=2)
    plain = stock(pipeline, request)
    pipeline.load_lora_weights(tmp_path, weight_name=file.name, adapter_name="one")
    pipeline.set_adapters(["one"], [0.5])
    wanted = stock(pipeline, request)
    run(replace(request, adapters=(Adapter(str(file), 0.5),)), Plan(chunk_tokens=33))
    assert relative(run.latents(), wanted) < 1e-5
    assert relative(plain, wanted) > 1e-3


@ONE
@pytest.mark.parametrize("plan", ["chunks", "streamed"])
def test_latents_are_diffusers_own_with_its_cache(family, checkpoint, tmp_path, plan):
    request = job_of(family, num_inference_steps=8, guidance_scale=1.0)
    pipeline, counted = pipeline_of(family, checkpoint), []
    pipeline.transformer.transformer_blocks[-1].attn1.register_forward_hook(lambda *_: counted.append(1))
    pipeline.transformer.enable_cache(FirstBlockCacheConfig(threshold=SHARE))
    theirs = stock(pipeline, request)
    run = Runs(family, checkpoint, tmp_path)
    events = run(request, replace(PLANS[plan], step_cache=SHARE))
    assert relative(run.latents(), theirs) < 1e-5
    (told,) = [one.message for one in events if isinstance(one, Noted) and one.message.id == "engine.step_cache"]
    assert told.params["passes"] - told.params["shortened"] == len(counted)
    assert 0 < told.params["shortened"] < request.num_inference_steps - 1
