"""LoRAs on MiniMax-H3: by the authors' names and diffusers', on every linear layer, as diffusers computes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import MiniMaxH3ModularPipeline, MiniMaxH3Transformer3DModel
from diffusers.loaders.lora_pipeline import MiniMaxH3LoraLoaderMixin
from safetensors.torch import save_file
from torch import nn

from i2v.families.adapters import ChosenAdapter, put_on, read_lora, take_off
from i2v.families.lora_names import MINIMAX_H3
from i2v.families.minimax_h3.layout import RowLayout
from i2v.families.minimax_h3.model import load
from i2v.families.minimax_h3.spec import SPEC
from i2v.models.adapters import check_adapter
from i2v.plan import Plan, everywhere
from i2v.planning.known import ADAPTERS_SLACK
from i2v.request import Adapter
from tests.hunyuan_runs import Runs, relative
from tests.lora_files import MUSUBI, kohya, named, pairs
from tests.minimax_h3_checkpoints import JOB, stock
from tests.planning.real_runs import follow

RANK, HEADS_WIDTH = 3, 128  # of a head of all published checkpoints
BARE, PEFT = "{layer}.lora_{part}.weight", "{layer}.lora_{part}.default.weight"
REQUEST = replace(JOB, task="t2v", inputs=(), width=64, num_inference_steps=2)
OUTSIDE = {
    "video_patch_proj": "proj_in",
    "audio_patch_proj": "audio_proj_in",
    "condition_proj": "context_embedder",
    "time_embedder.proj_in": "time_embedder.linear_1",
    "time_embedder.proj_out": "time_embedder.linear_2",
    "final_layer.adaln_proj.linear": "norm_out.linear",
    "final_layer.video_out": "proj_out",
    "final_layer.audio_out": "audio_proj_out",
}
INSIDE = {
    "attn.out_proj": "attn.to_out.0", "mlp.fc1": "ff.net.0.proj", "mlp.fc2": "ff.net.2",
    "adaln_proj.linear": "adaln_proj.linear",
}  # fmt: skip
BLOCKS = {"token_refiner.blocks": "token_refiner.refiner_blocks", "blocks": "transformer_blocks"}


@pytest.fixture(scope="module")
def network(checkpoint: Path) -> MiniMaxH3Transformer3DModel:
    return MiniMaxH3Transformer3DModel.from_pretrained(checkpoint / "transformer")


def linear_layers(network: nn.Module) -> dict[str, tuple[int, int]]:
    return {name: tuple(one.weight.shape) for name, one in network.named_modules() if isinstance(one, nn.Linear)}


def authors_layers(network: nn.Module) -> dict[str, tuple[int, int]]:
    """All linear layers, as the authors call them: (out, in)."""
    ours = linear_layers(network)
    found = {theirs: ours[name] for theirs, name in OUTSIDE.items()}
    for theirs, name in BLOCKS.items():
        for number in range(sum(layer.startswith(name) and layer.endswith("to_q") for layer in ours)):
            out, into = ours[f"{name}.{number}.attn.to_q"]
            found[f"{theirs}.{number}.attn.qkv_proj"] = 3 * out, into
            for inside, own in INSIDE.items():
                if (layer := f"{name}.{number}.{own}") in ours:
                    found[f"{theirs}.{number}.{inside}"] = ours[layer]
    return found


def theirs_of(file: Path) -> Mapping[str, torch.Tensor]:
    found = MiniMaxH3LoraLoaderMixin.lora_state_dict(file)
    return {name.removeprefix("transformer."): one for name, one in found.items()}


def test_every_linear_layer_has_a_name(network):
    for layer in linear_layers(network):
        assert MINIMAX_H3.layer(layer) == layer
    for layer in authors_layers(network):
        assert MINIMAX_H3.layer(layer) == layer
        assert MINIMAX_H3.is_authors(layer)


@pytest.mark.parametrize("names", [MUSUBI, BARE, "kohya"])
def test_tensors_are_what_diffusers_makes_of_the_authors(network, tmp_path, names):
    drawn, file = pairs(authors_layers(network), RANK, 5), tmp_path / "one.safetensors"
    save_file(kohya(drawn, alpha=RANK) if names == "kohya" else named(drawn, names), file)
    found, wanted = read_lora(file, MINIMAX_H3).tensors, theirs_of(file)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name].to(found[name])) for name in wanted)
    assert {name.rpartition(".lora_")[0] for name in found} == linear_layers(network).keys()


def test_rows_that_go_head_by_head_are_told_by_the_names(tmp_path):
    heads, file = 2, tmp_path / "one.safetensors"
    drawn = pairs({"blocks.0.attn.qkv_proj": (3 * heads * HEADS_WIDTH, 8)}, RANK, 5)
    save_file(named(drawn, PEFT), file)
    found, wanted = read_lora(file, MINIMAX_H3).tensors, theirs_of(file)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    save_file(named(drawn, BARE), file)
    assert not torch.equal(read_lora(file, MINIMAX_H3).tensors["transformer_blocks.0.attn.to_q.lora_B.weight"],
                           wanted["transformer_blocks.0.attn.to_q.lora_B.weight"])  # fmt: skip


@pytest.mark.parametrize("metadata", [{}, {"alpha": "1.5"}], ids=["no alpha", "alpha in the header"])
def test_a_run_with_one_is_diffusers_own(
    checkpoint: Path, network: nn.Module, pipeline: MiniMaxH3ModularPipeline, tmp_path: Path, metadata: dict[str, str]
) -> None:
    file = tmp_path / "turbo_8step.safetensors"
    save_file(named(pairs(authors_layers(network), RANK, 5), MUSUBI), file, metadata)
    check_adapter(file, SPEC)
    layout = RowLayout.of(REQUEST)
    plain = stock(pipeline, REQUEST, {}).get("latents")
    pipeline.load_lora_weights(tmp_path, weight_name=file.name, adapter_name="one")
    try:
        pipeline.set_adapters(["one"], [0.5])
        wanted = stock(pipeline, REQUEST, {})
    finally:
        pipeline.unload_lora_weights()
    run = Runs("minimax_h3", checkpoint, tmp_path)
    run(replace(REQUEST, adapters=(Adapter(str(file), 0.5),)), Plan(chunk_tokens=33))
    _, frames, sounds = layout.parted(run.latents())
    assert relative(layout.as_frames(frames), wanted.get("latents")) < 1e-5
    assert relative(layout.as_sound(sounds), wanted.get("audio_latents")) < 1e-5
    assert relative(plain, wanted.get("latents")) > 1e-3


def test_activations_are_never_more_than_foretold(checkpoint, network, tmp_path):
    """On every linear layer, one and two at once; the rank a sixteenth of the network's width."""
    model = load(checkpoint, torch.float32)
    model.modules.load(model.modules)
    plan = Plan(places=everywhere("staged"), chunk_tokens=100)

    def held() -> int:
        return next(run.activations_bytes for run in follow(model, REQUEST, plan, steps=1) if run.name == "denoise")

    plain, file = held(), tmp_path / "one.safetensors"
    save_file(named(pairs(authors_layers(network), RANK, 5), MUSUBI), file)
    for times in (1, 2):
        put_on(model.transformer, [ChosenAdapter(file, 1.0)] * times, MINIMAX_H3, torch.float32)
        assert held() <= plain * ADAPTERS_SLACK
        take_off(model.transformer)
