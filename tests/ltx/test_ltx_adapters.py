"""LoRAs on LTX-Video: by the authors' names and diffusers', on every linear layer, as diffusers computes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import LTXPipeline, LTXVideoTransformer3DModel
from safetensors.torch import save_file
from torch import nn

from i2v.families.adapters import read_lora
from i2v.families.lora_names import LTX, lora_tensor
from i2v.families.ltx.spec import SPEC
from i2v.models.adapters import check_adapter
from i2v.plan import Plan
from i2v.request import Adapter
from tests.hunyuan_runs import Runs, relative
from tests.lora_files import MUSUBI, kohya, named, pairs
from tests.ltx_checkpoints import JOB, TRANSFORMER, pipeline_of, stock

RANK = 3
# What the authors call the layers that diffusers calls otherwise: its conversion of whole checkpoints.
RENAMED = {"proj_in": "patchify_proj", "time_embed": "adaln_single"}


def linear_layers() -> dict[str, tuple[int, int]]:
    """All of the transformer: (out, in)."""
    with torch.device("meta"):
        network = LTXVideoTransformer3DModel(**TRANSFORMER)
    layers = ((name, one) for name, one in network.named_modules() if isinstance(one, nn.Linear))
    return {name: tuple(one.weight.shape) for name, one in layers}


def authors_layers() -> dict[str, tuple[int, int]]:
    """The same, as the authors call them."""
    parts = ((*name.partition("."), shape) for name, shape in linear_layers().items())
    return {f"{RENAMED.get(first, first)}{dot}{rest}": shape for first, dot, rest, shape in parts}


def test_every_linear_layer_has_a_name():
    for layer in linear_layers():
        assert LTX.layer(layer) == layer
        assert lora_tensor(f"transformer.{layer}.lora_A.weight").layer == layer


def test_the_authors_names_are_understood_as_those_of_the_kohya_line(tmp_path):
    drawn = pairs(authors_layers(), RANK, 5)
    save_file(named(drawn, MUSUBI), tmp_path / "one.safetensors")
    save_file(kohya(drawn, alpha=RANK), tmp_path / "other.safetensors")
    one, other = (read_lora(tmp_path / f"{name}.safetensors", LTX).tensors for name in ("one", "other"))
    assert {name.rpartition(".lora_")[0] for name in one} == linear_layers().keys()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name].to(one[name])) for name in one)


def test_a_run_with_one_is_diffusers_own(folders: Callable[[str], Path], tmp_path: Path) -> None:
    """By diffusers' names: its own conversion knows no others."""
    file = tmp_path / "one.safetensors"
    save_file(named(pairs(linear_layers(), RANK, 5), MUSUBI), file)
    check_adapter(file, SPEC)
    run, pipeline = Runs("ltx", folders("0.9.0"), tmp_path), pipeline_of(LTXPipeline, folders("0.9.0"))
    request = replace(JOB, task="t2v", inputs=(), num_inference_steps=2)
    plain = stock(pipeline, request, "latent")
    pipeline.load_lora_weights(tmp_path, weight_name=file.name, adapter_name="one")
    pipeline.set_adapters(["one"], [0.5])
    wanted = stock(pipeline, request, "latent")
    run(replace(request, adapters=(Adapter(str(file), 0.5),)), Plan(chunk_tokens=33))
    assert relative(run.latents().flatten(2).transpose(1, 2), wanted) < 1e-5
    assert relative(plain, wanted) > 1e-3
