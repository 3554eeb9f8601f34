"""LoRAs on a network: what diffusers' own loading computes with them, in every format; streamed as resident; and off
again without a trace."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import HunyuanVideoPipeline
from diffusers.loaders.single_file_utils import convert_hunyuan_video_transformer_to_diffusers
from safetensors.torch import save_file
from torch import Tensor, nn

from i2v.families.adapters import ChosenAdapter, put_on, read_lora, take_off
from i2v.families.lora_names import HUNYUAN_VIDEO
from i2v.memory.card import SimulatedCard
from i2v.memory.parts import parts_bytes, weights_of
from i2v.memory.precision import store_weights
from i2v.memory.streaming import parted
from i2v.messages import UserError
from i2v.models.adapters import numbers_in
from tests.lora_files import MUSUBI, kohya, lora_file, named, pairs
from tests.small_networks import Small, hunyuan, passes


@pytest.fixture(scope="module")
def small() -> Small:
    return hunyuan()


def files(tmp_path: Path, network: nn.Module, count: int = 2) -> list[Path]:
    return [lora_file(tmp_path / f"{seed}.safetensors", network, rank=3 + seed, seed=seed) for seed in range(count)]


def put(network: nn.Module, chosen: dict[Path, float], dtype: torch.dtype = torch.float32) -> None:
    put_on(network, [ChosenAdapter(file, weight) for file, weight in chosen.items()], HUNYUAN_VIDEO, dtype)


def pipeline(network: nn.Module) -> HunyuanVideoPipeline:
    """diffusers' own around a network alone."""
    others = ("text_encoder", "tokenizer", "vae", "scheduler", "text_encoder_2", "tokenizer_2")
    return HunyuanVideoPipeline(transformer=network, **dict.fromkeys(others))


def as_diffusers(chosen: dict[Path, float], *, fuse: bool) -> list[Tensor]:
    """What diffusers' pipeline computes when it loads these files itself."""
    small = hunyuan()
    pipe = pipeline(small.network)
    called = [f"lora{number}" for number in range(len(chosen))]
    for name, file in zip(called, chosen, strict=True):
        pipe.load_lora_weights(file, adapter_name=name)
    pipe.set_adapters(called, list(chosen.values()))
    if fuse:
        pipe.fuse_lora(adapter_names=called)
        pipe.unload_lora_weights()
    small.network.eval()
    return passes(small)


@pytest.fixture(autouse=True)
def _off_again(small: Small):
    yield
    take_off(small.network)


def close(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(float((a - b).abs().max()) <= 1e-5 for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("weights", [(0.5,), (-1.0,), (0.5, -1.0)])
def test_the_network_computes_what_diffusers_own_loading_computes(small: Small, tmp_path: Path, weights) -> None:
    plain = passes(small)
    chosen = dict(zip(files(tmp_path, small.network, len(weights)), weights, strict=True))
    wanted = [as_diffusers(chosen, fuse=fuse) for fuse in (False, True)]
    put(small.network, chosen)
    made = passes(small)
    assert all(close(made, one) for one in wanted)
    assert not close(made, plain)


def test_another_choice_takes_the_place_of_the_first_and_none_leaves_the_network_as_it_was(
    small: Small, tmp_path: Path
) -> None:
    plain, before = passes(small), {name: id(one) for name, one in small.network.named_modules()}
    tensors = {name: (id(one), one.clone()) for name, one in small.network.state_dict(keep_vars=True).items()}
    first, second = files(tmp_path, small.network)
    put(small.network, {first: 1.0})
    put(small.network, {second: 0.5})
    wanted = as_diffusers({second: 0.5}, fuse=False)
    assert close(passes(small), wanted)
    put(small.network, {})
    assert {name: id(one) for name, one in small.network.named_modules()} == before
    after = small.network.state_dict(keep_vars=True)
    assert after.keys() == tensors.keys()
    assert all(id(after[name]) == was and torch.equal(after[name], value) for name, (was, value) in tensors.items())
    assert all(map(torch.equal, passes(small), plain))
    assert not small.network.training
    assert not any(one.requires_grad for one in small.network.parameters())


def test_with_loras_it_streams_bit_for_bit_and_counts_their_bytes(small: Small, tmp_path: Path) -> None:
    plain_bytes = sum(parts_bytes(weights_of(small.network)))
    chosen = dict.fromkeys(files(tmp_path, small.network), 0.7)
    put(small.network, chosen)
    wanted, parts = passes(small), parted(small.network, small.blocks)
    added = 4 * sum(numbers_in(file, HUNYUAN_VIDEO) for file in chosen)
    assert sum(parts_bytes(weights_of(small.network))) == plain_bytes + added
    card = SimulatedCard(2**30)
    with card.running():
        card.place(small.network)
        assert card.read_memory().allocated_bytes == plain_bytes + added
        resident = [card.to_host(one) for one in passes(small)]
        card.evict(small.network)
        card.stream(small.network, parts, kept_bytes=parts.sizes_bytes[0], slots=2)
        streamed = [card.to_host(one) for one in passes(small)]
        card.evict(small.network)
    assert all(map(torch.equal, resident, wanted))
    assert all(map(torch.equal, streamed, wanted))


@pytest.mark.parametrize("weights", ["full", "int8", "float8"])
def test_a_lora_keeps_the_precision_of_the_plan_whatever_the_weights_are_stored_in(tmp_path: Path, weights) -> None:
    small = hunyuan()
    small.network.to(torch.bfloat16)
    store_weights(small.network, weights)
    stored = {name: one.dtype for name, one in small.network.named_parameters()}
    file = lora_file(tmp_path / "one.safetensors", small.network)
    put(small.network, {file: 1.0}, torch.bfloat16)
    lora = read_lora(file, HUNYUAN_VIDEO).tensors
    found = dict(small.network.named_parameters())
    for key, tensor in lora.items():
        assert torch.equal(found[key.replace(".weight", ".file0.weight")], tensor.bfloat16()), key
    take_off(small.network)
    assert {name: one.dtype for name, one in small.network.named_parameters()} == stored


def test_what_a_file_says_of_its_scale_is_heard(small: Small, tmp_path: Path) -> None:
    """In diffusers' files it stands in the header, and dropout with it, which is for training."""
    config = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.5, "target_modules": ["to_q"]}
    said = json.dumps({f"transformer.{key}": value for key, value in config.items()})
    scaled = lora_file(tmp_path / "scaled.safetensors", small.network, metadata={"lora_adapter_metadata": said})
    plain = lora_file(tmp_path / "plain.safetensors", small.network)
    put(small.network, {scaled: 1.0})
    made = passes(small)
    put(small.network, {plain: 2.0})
    assert close(made, passes(small))
    assert close(made, as_diffusers({scaled: 1.0}, fuse=False))


def test_a_lora_may_have_biases(small: Small, tmp_path: Path) -> None:
    def biased(tensors: dict[str, Tensor]) -> None:
        drawn = torch.Generator().manual_seed(4)
        for key in [one for one in tensors if "lora_B" in one]:
            tensors[key.replace("weight", "bias")] = torch.randn(len(tensors[key]), generator=drawn)

    file = lora_file(tmp_path / "biased.safetensors", small.network, change=biased)
    plain = lora_file(tmp_path / "plain.safetensors", small.network)
    put(small.network, {file: 0.5})
    made = passes(small)
    assert close(made, as_diffusers({file: 0.5}, fuse=False))
    put(small.network, {plain: 0.5})
    assert not close(made, passes(small))


def test_every_layer_may_have_a_rank_of_its_own(small: Small, tmp_path: Path) -> None:
    """Linear layers and the convolution that cuts a clip into patches: as if the products were part of the weights."""
    layers = {name: one for name, one in small.network.named_modules() if HUNYUAN_VIDEO.layer(name)}
    generator, tensors, other = torch.Generator().manual_seed(5), {}, hunyuan()
    for number, (name, layer) in enumerate(layers.items()):
        rank, (out, *into) = 1 + number % 5, layer.weight.shape
        down, up = (0.1 * torch.randn(shape, generator=generator) for shape in ((rank, *into), (out, rank)))
        tensors[f"transformer.{name}.lora_A.weight"] = down
        tensors[f"transformer.{name}.lora_B.weight"] = up.reshape(out, rank, *(1 for _ in into[1:]))
        other.network.get_parameter(f"{name}.weight").add_(0.5 * (up @ down.flatten(1)).reshape(layer.weight.shape))
    assert {type(one) for one in layers.values()} == {nn.Linear, nn.Conv3d}
    save_file(tensors, tmp_path / "one.safetensors")
    put(small.network, {tmp_path / "one.safetensors": 0.5})
    assert close(passes(small), passes(other))


HIDDEN, TEXT = 64, 48
REAL_HIDDEN = 3072  # at which diffusers divides a single block's first layer, whatever its size
LAYERS = {
    "img_in.proj": (HIDDEN, 16),
    **{f"{one}.mlp.{number}": (HIDDEN, HIDDEN) for one in ("time_in", "guidance_in") for number in (0, 2)},
    "vector_in.in_layer": (HIDDEN, 24), "vector_in.out_layer": (HIDDEN, HIDDEN),
    "txt_in.input_embedder": (HIDDEN, TEXT),
    **{f"txt_in.t_embedder.mlp.{number}": (HIDDEN, HIDDEN) for number in (0, 2)},
    **{f"txt_in.c_embedder.linear_{number}": (HIDDEN, HIDDEN) for number in (1, 2)},
    **{
        f"txt_in.individual_token_refiner.blocks.1.{name}": (out, into)
        for name, out, into in (
            ("self_attn_qkv", 3 * HIDDEN, HIDDEN), ("self_attn_proj", HIDDEN, HIDDEN), ("mlp.fc1", 4 * HIDDEN, HIDDEN),
            ("mlp.fc2", HIDDEN, 4 * HIDDEN), ("adaLN_modulation.1", 2 * HIDDEN, HIDDEN),
        )
    },
    **{
        f"double_blocks.10.{kind}_{name}": (out, into)
        for kind in ("img", "txt")
        for name, out, into in (
            ("mod.linear", 6 * HIDDEN, HIDDEN), ("attn_qkv", 3 * HIDDEN, HIDDEN), ("attn_proj", HIDDEN, HIDDEN),
            ("mlp.fc1", 4 * HIDDEN, HIDDEN), ("mlp.fc2", HIDDEN, 4 * HIDDEN),
        )
    },
    "single_blocks.12.linear1": (7 * REAL_HIDDEN, 8), "single_blocks.12.linear2": (HIDDEN, 5 * HIDDEN),
    "single_blocks.12.modulation.linear": (3 * HIDDEN, HIDDEN),
    "final_layer.linear": (64, HIDDEN), "final_layer.adaLN_modulation.1": (2 * HIDDEN, HIDDEN),
}  # fmt: skip
"""Every linear layer of HunyuanVideo as its authors call it, one of those that are alike: (out, in)."""


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("form", ["dots", "kohya"])
def test_the_authors_names_are_converted_as_diffusers_converts_whole_checkpoints(
    tmp_path: Path, layer: str, form: str
) -> None:
    """What the LoRA adds to a layer, converted as if it were the layer's weight, is what the converted LoRA adds."""
    drawn = pairs({layer: LAYERS[layer]}, rank=3, seed=1)
    tensors, scale = (named(drawn, MUSUBI), 1.0) if form == "dots" else (kohya(drawn, alpha=1.5), 0.5)
    save_file(tensors, tmp_path / "one.safetensors")
    lora = read_lora(tmp_path / "one.safetensors", HUNYUAN_VIDEO).tensors
    down, up = drawn[layer]
    wanted = convert_hunyuan_video_transformer_to_diffusers({f"{layer}.weight": scale * up @ down})
    assert {key.replace(".weight", ".lora_A.weight") for key in wanted} == {key for key in lora if "lora_A" in key}
    for key, value in wanted.items():
        added = lora[key.replace(".weight", ".lora_B.weight")] @ lora[key.replace(".weight", ".lora_A.weight")]
        assert torch.allclose(added, value, atol=1e-5), key
    assert numbers_in(tmp_path / "one.safetensors", HUNYUAN_VIDEO) == sum(one.numel() for one in lora.values())


@pytest.mark.parametrize("form", ["dots", "kohya"])
def test_a_file_with_the_authors_names_computes_what_diffusers_computes(small: Small, tmp_path: Path, form) -> None:
    wide = 4 * 16
    shapes = {f"double_blocks.{n}.{kind}_attn_qkv": (3 * wide, wide) for n in range(2) for kind in ("img", "txt")}
    drawn = pairs({**shapes, "single_blocks.1.linear2": (wide, 5 * wide)}, rank=4, seed=3)
    plain = tmp_path / "plain.safetensors"
    save_file(named(drawn, MUSUBI), plain)
    file = plain
    if form == "kohya":  # which diffusers does not read
        file = tmp_path / "kohya.safetensors"
        save_file(kohya(drawn, alpha=4.0), file)
    put(small.network, {file: 0.5})
    assert close(passes(small), as_diffusers({plain: 0.5}, fuse=True))


LAYER = "transformer.transformer_blocks.1.attn.to_k"


def replaced(part: str, tensor: Tensor | None):
    def change(tensors: dict[str, Tensor]) -> None:
        tensors.pop(f"{LAYER}.lora_{part}.weight")
        if tensor is not None:
            tensors[f"{LAYER}.lora_{part}.weight"] = tensor

    return change


@pytest.mark.parametrize(
    ("change", "told", "known"),
    [
        (replaced("A", torch.zeros(4, 48)), "models.adapter_shape", {"found": "4x48", "wanted": "4x64"}),
        (replaced("B", torch.zeros(64, 5)), "models.adapter_shape", {"found": "64x5", "wanted": "64x4"}),
        (replaced("B", torch.zeros(())), "models.adapter_shape", {"found": "()", "wanted": "64x4"}),
        (replaced("A", None), "models.adapter_half", {"tensor": f"{LAYER}.lora_B.weight"}),
        (replaced("A", torch.full((4, 64), torch.nan)), "models.tensor_not_finite", {}),
        (replaced("B", torch.full((64, 4), torch.inf)), "models.tensor_not_finite", {}),
        (lambda one: one.update({f"{LAYER}.dora_scale": torch.ones(64)}), "models.adapter_key", {}),
        (lambda one: one.update({f"{LAYER}.lora_A.bias": torch.ones(4)}), "models.adapter_key", {}),
        (lambda one: one.update({LAYER.removeprefix("transformer.") + ".lora_A.weight": torch.zeros(4, 64)}),
         "models.adapter_key", {}),
        (lambda one: one.update(named(pairs({"double_blocks.1.img_attn_qkv": (192, 64)}, 4, 0), MUSUBI)),
         "models.adapter_key", {"tensor": "transformer_blocks.1.attn.to_k.lora_A.weight"}),
        (lambda one: one.update({f"{LAYER}.alpha": torch.ones(2)}), "models.adapter_key", {}),
        (replaced("A", torch.zeros(())), "models.adapter_shape", {"found": "()"}),
        (lambda one: [replaced("A", torch.zeros(0, 64))(one), replaced("B", torch.zeros(64, 0))(one)],
         "models.adapter_cannot_load", {}),
        (lambda one: one.update(named(pairs({"transformer_blocks.7.attn.to_q": (64, 64)}, 4, 0))),
         "models.adapter_layer", {}),
        (lambda one: one.update(named(pairs({"single_blocks.0.linear1": (7 * 64, 64)}, 4, 0), MUSUBI)),
         "models.adapter_cannot_load", {}),
    ],
    ids=["in", "ranks", "a number", "half", "nan", "infinite", "dora", "bias", "twice", "twice by other names",
         "two alphas", "a number before", "no rank", "no such block", "another size"],
)  # fmt: skip
def test_what_does_not_fit_is_told_and_nothing_is_put_on(small: Small, tmp_path: Path, change, told, known) -> None:
    plain = passes(small)
    good = lora_file(tmp_path / "good.safetensors", small.network)
    bad = lora_file(tmp_path / "bad.safetensors", small.network, change=change)
    with pytest.raises(UserError) as refused:
        put(small.network, {good: 1.0, bad: 1.0})
    text = refused.value.message
    assert text.id == told
    assert "bad.safetensors" in text.params["file"]
    assert known.items() <= text.params.items()
    assert all(text.render(locale) for locale in ("en", "zh-CN"))
    assert all(map(torch.equal, passes(small), plain))


def test_a_value_too_large_for_half_precision_is_told(small: Small, tmp_path: Path) -> None:
    file = lora_file(tmp_path / "large.safetensors", small.network, change=replaced("B", torch.full((64, 4), 1e6)))
    with pytest.raises(UserError) as refused:
        put(small.network, {file: 1.0}, torch.float16)
    assert refused.value.message.id == "models.tensor_too_large"
