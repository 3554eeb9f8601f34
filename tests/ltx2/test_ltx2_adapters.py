"""LoRAs on LTX-2: by the authors' names and diffusers', on every linear layer, as diffusers computes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import DiffusionPipeline, LTX2VideoTransformer3DModel
from diffusers.loaders.lora_conversion_utils import _convert_non_diffusers_ltx2_lora_to_diffusers
from safetensors.torch import save_file
from torch import nn

from i2v.families.adapters import ChosenAdapter, put_on, read_lora, take_off
from i2v.families.lora_names import LTX2, lora_tensor
from i2v.families.ltx2.model import load
from i2v.families.ltx2.spec import SPEC
from i2v.models.adapters import check_adapter
from i2v.plan import Plan, everywhere
from i2v.planning.known import ADAPTERS_SLACK
from i2v.request import Adapter
from tests.hunyuan_runs import Runs, relative
from tests.lora_files import MUSUBI, kohya, named, pairs
from tests.ltx2_checkpoints import JOB, VERSIONS, stock
from tests.planning.real_runs import follow

RANK = 3


def linear_layers(version: str) -> dict[str, tuple[int, int]]:
    """All of the transformer: (out, in)."""
    with torch.device("meta"):
        network = LTX2VideoTransformer3DModel(**VERSIONS[version]["transformer"])
    layers = ((name, one) for name, one in network.named_modules() if isinstance(one, nn.Linear))
    return {name: tuple(one.weight.shape) for name, one in layers}


def authors_layers(version: str) -> dict[str, tuple[int, int]]:
    """The same, as the authors call them."""
    back = {ours: theirs for theirs, ours in LTX2.renamed.items()}
    found = {}
    for name, shape in linear_layers(version).items():
        pieces = name.split(".")
        number = pieces[1] if pieces[0] == "transformer_blocks" else ""
        general = ".".join([pieces[0], "<n>", *pieces[2:]]) if number else name
        found[back[general].replace("<n>", number)] = shape
    return found


def test_every_linear_layer_has_a_name(version):
    for layer in linear_layers(version):
        assert LTX2.layer(layer) == layer
        assert lora_tensor(f"transformer.{layer}.lora_A.weight").layer == layer


def test_names_are_what_diffusers_makes_of_the_authors(version, tmp_path):
    tensors = named(pairs(authors_layers(version), RANK, 5), MUSUBI)
    save_file(tensors, tmp_path / "one.safetensors")
    converted = _convert_non_diffusers_ltx2_lora_to_diffusers(tensors)
    wanted = {name.removeprefix("transformer."): one for name, one in converted.items()}
    found = read_lora(tmp_path / "one.safetensors", LTX2).tensors
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert {name.rpartition(".lora_")[0] for name in found} == linear_layers(version).keys()


def test_trainers_of_the_kohya_line_are_understood(version, tmp_path):
    drawn = pairs(authors_layers(version), RANK, 5)
    save_file(named(drawn, MUSUBI), tmp_path / "one.safetensors")
    save_file(kohya(drawn, alpha=RANK), tmp_path / "other.safetensors")
    one, other = (read_lora(tmp_path / f"{name}.safetensors", LTX2).tensors for name in ("one", "other"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name].to(one[name])) for name in one)


def test_a_run_with_one_is_diffusers_own(
    folders: Callable[[str], Path], pipelines: dict[str, DiffusionPipeline], version: str, tmp_path: Path
) -> None:
    file = tmp_path / "one.safetensors"
    save_file(named(pairs(authors_layers(version), RANK, 5), MUSUBI), file)
    check_adapter(file, SPEC)
    run, pipeline = Runs("ltx2", folders(version), tmp_path), pipelines["t2v"]
    request = replace(JOB, task="t2v", inputs=(), num_inference_steps=2)
    plain = stock(pipeline, request, "latent", version)
    pipeline.load_lora_weights(tmp_path, weight_name=file.name, adapter_name="one")
    try:
        pipeline.set_adapters(["one"], [0.5])
        wanted = stock(pipeline, request, "latent", version)
    finally:
        pipeline.unload_lora_weights()
    run(replace(request, adapters=(Adapter(str(file), 0.5),)), Plan(chunk_tokens=33))
    layout = pipeline.transformer.config
    pictures = run.latents()[:, : wanted[0].numel()].reshape(1, -1, layout.in_channels)
    theirs = wanted[0].flatten(2).transpose(1, 2)
    mean, std = pipeline.vae.latents_mean, pipeline.vae.latents_std
    assert relative(pictures * std + mean, theirs) < 1e-5
    assert relative(plain[0].flatten(2).transpose(1, 2), theirs) > 1e-3


def test_activations_are_never_more_than_foretold(folders, version, tmp_path):
    """On every linear layer, one and two at once; the rank a thirtieth of the network's width."""
    model = load(folders(version), torch.float32)
    model.modules.load(model.modules)
    request = replace(JOB, task="t2v", inputs=(), width=256, height=256, num_frames=17, num_inference_steps=2)
    plan = Plan(places=everywhere("staged"), chunk_tokens=100)

    def held() -> int:
        return next(run.activations_bytes for run in follow(model, request, plan, steps=1) if run.name == "denoise")

    plain, file = held(), tmp_path / "one.safetensors"
    save_file(named(pairs(authors_layers(version), RANK, 5), MUSUBI), file)
    for times in (1, 2):
        put_on(model.transformer, [ChosenAdapter(file, 1.0)] * times, LTX2, torch.float32)
        assert held() <= plain * ADAPTERS_SLACK
        take_off(model.transformer)
