"""LoRAs on Wan: by the authors' names and diffusers', with differences of norms, biases and tables as files of few
steps have them; as diffusers' own loading computes them, as far as it does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import WanPipeline, WanTransformer3DModel
from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers
from safetensors.torch import save_file
from torch import Tensor, nn

from i2v.families.adapters import ChosenAdapter, put_on, read_lora, take_off
from i2v.families.lora_names import WAN, lora_tensor
from i2v.families.wan.spec import SPEC
from i2v.memory.card import SimulatedCard
from i2v.memory.parts import parts_bytes, weights_of
from i2v.memory.precision import store_weights
from i2v.memory.streaming import parted
from i2v.messages import LOCALES, UserError
from i2v.models.adapters import check_adapter, numbers_in
from i2v.plan import Plan
from i2v.request import Adapter
from tests.hunyuan_runs import Runs, relative
from tests.lora_files import MUSUBI, kohya, named, pairs
from tests.small_networks import Small, passes, redrawn
from tests.wan_checkpoints import JOB, stock

HEADS, DIM, FFN, TEXT, IMAGE, FREQUENCIES = 2, 12, 40, 20, 16, 8
WIDTH = HEADS * DIM


def network() -> Small:
    """With a picture's embeddings, as picture-to-video has them."""
    torch.manual_seed(0)
    made = WanTransformer3DModel(
        num_attention_heads=HEADS, attention_head_dim=DIM, in_channels=4, out_channels=4, text_dim=TEXT,
        freq_dim=FREQUENCIES, ffn_dim=FFN, num_layers=3, image_dim=IMAGE, added_kv_proj_dim=WIDTH,
    )  # fmt: skip
    redrawn(made)
    latents, text, image = torch.randn(1, 4, 2, 8, 12), torch.randn(1, 9, TEXT), torch.randn(1, 257, IMAGE)

    def forward(number: int) -> Tensor:
        return made(
            hidden_states=latents, timestep=torch.tensor([900 - 100 * number]), encoder_hidden_states=text,
            encoder_hidden_states_image=image, return_dict=False,
        )[0]  # fmt: skip

    return Small(made, [*made.blocks], forward)


@pytest.fixture(scope="module")
def small() -> Small:
    return network()


@pytest.fixture(autouse=True)
def _off_again(small: Small):
    yield
    take_off(small.network)


def put(small: Small, file: Path, weight: float = 1.0) -> None:
    put_on(small.network, [ChosenAdapter(file, weight)], WAN, torch.float32)


def saved(tmp_path: Path, tensors: dict[str, Tensor]) -> Path:
    save_file({name: one.contiguous() for name, one in tensors.items()}, tmp_path / "one.safetensors")
    return tmp_path / "one.safetensors"


def authors_of(network: nn.Module) -> dict[str, tuple[int, int]]:
    """Every linear layer that a LoRA goes on, as the authors call it: (out, in)."""
    shapes = {}
    for number in range(3):
        for theirs, ours in WAN.renamed.items():
            layer = network.get_submodule(ours.replace("<n>", str(number)))
            if isinstance(layer, nn.Linear) and ("<n>" in theirs or not number):
                shapes[theirs.replace("<n>", str(number))] = tuple(layer.weight.shape)
    return shapes


def drawn(shape: tuple[int, ...], seed: int = 9) -> Tensor:
    return 0.3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def close(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(float((a - b).abs().max()) <= 1e-5 for a, b in zip(one, other, strict=True))


def test_every_name_is_what_diffusers_makes_of_the_authors_checkpoints(small: Small) -> None:
    parameters = dict(small.network.named_parameters())
    named_by_authors = {**WAN.renamed, **{norm: to for norm, to in WAN.unmatched.items() if norm != "head"}}
    seen = set()
    for theirs, ours in named_by_authors.items():
        for kind, ending in (("weight", "diff"), ("bias", "diff_b"), ("modulation", "diff_m")):
            layer, to = theirs.replace("<n>", "2"), ours.replace("<n>", "2")
            wanted = f"{to}.{'scale_shift_table' if kind == 'modulation' else kind}"
            if wanted not in parameters:
                continue
            (converted,) = convert_wan_transformer_to_diffusers({f"{layer}.{kind}": parameters[wanted]})
            assert converted == wanted
            assert WAN.parameter(lora_tensor(f"diffusion_model.{layer}.{ending}")) == wanted
            seen.add(wanted)
    assert WAN.parameter(lora_tensor("head.diff_m")) == "scale_shift_table"
    in_other_blocks = {name for name in parameters if name.startswith(("blocks.0", "blocks.1"))}
    assert set(parameters) - in_other_blocks - seen == {"scale_shift_table"}


@pytest.mark.parametrize("form", ["dots", "kohya", "two underscores", "diffusers"])
def test_it_computes_what_diffusers_own_loading_computes(small: Small, tmp_path: Path, form: str) -> None:
    plain, shapes = passes(small), authors_of(small.network)
    matrices = pairs(shapes, rank=3, seed=2)
    theirs = saved(tmp_path, named(matrices, MUSUBI))
    wanted = network()
    pipe = WanPipeline(tokenizer=None, text_encoder=None, vae=None, scheduler=None, transformer=wanted.network)
    pipe.load_lora_weights(theirs, adapter_name="one")
    pipe.set_adapters(["one"], [0.5])
    wanted.network.eval()
    ours = {WAN.diffusers_layer(layer): pair for layer, pair in matrices.items()}
    as_kohya = kohya(matrices, alpha=3.0)
    written = {
        "dots": named(matrices, MUSUBI),
        "kohya": as_kohya,
        "two underscores": {name.replace("lora_unet_", "lora_unet__"): one for name, one in as_kohya.items()},
        "diffusers": named(ours),
    }[form]
    file = saved(tmp_path, written)
    check_adapter(file, SPEC)
    put(small, file, 0.5)
    assert close(passes(small), passes(wanted))
    assert not close(passes(small), plain)
    assert numbers_in(file, WAN) == sum(one.numel() for one in read_lora(file, WAN).tensors.values())


def with_differences(small: Small) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A difference of every parameter but matrices, and of the last layer's matrix; by the names of files, and of the
    parameters."""
    parameters, tensors, by_parameter = dict(small.network.named_parameters()), {}, {}
    for theirs, ours in {**WAN.renamed, **WAN.unmatched}.items():
        for number in range(3) if "<n>" in theirs else (0,):
            for ending, kind in (("diff", "weight"), ("diff_b", "bias"), ("diff_m", "scale_shift_table")):
                name = ".".join(filter(None, (ours.replace("<n>", str(number)), kind)))
                if name in parameters and (parameters[name].ndim != 2 or theirs == "head.head"):
                    by_parameter[name] = drawn(tuple(parameters[name].shape), len(tensors))
                    tensors[f"diffusion_model.{theirs.replace('<n>', str(number))}.{ending}"] = by_parameter[name]
    return tensors, by_parameter


def test_differences_are_added_and_taken_back(small: Small, tmp_path: Path) -> None:
    plain, own = passes(small), dict(small.network.named_parameters())
    tensors, by_parameter = with_differences(small)
    matrices = pairs({"blocks.1.ffn.0": (FFN, WIDTH), "head.head": (16, WIDTH)}, rank=2, seed=3)
    file = saved(tmp_path, {**tensors, **named(matrices, MUSUBI)})
    check_adapter(file, SPEC)
    other = network()
    for name, difference in by_parameter.items():
        other.network.get_parameter(name).data.add_(0.5 * difference)
    for layer, (down, up) in matrices.items():
        other.network.get_parameter(f"{WAN.diffusers_layer(layer)}.weight").data.add_(0.5 * up @ down)
    put(small, file, 0.5)
    assert close(passes(small), passes(other))
    put(small, file, 0.5)  # in place of those, not beside
    assert close(passes(small), passes(other))
    take_off(small.network)
    after = dict(small.network.named_parameters())
    assert after.keys() == own.keys()
    assert all(after[name] is was for name, was in own.items())
    assert all(map(torch.equal, passes(small), plain))


def test_differences_stream_bit_for_bit_and_hold_nothing_more(small: Small, tmp_path: Path) -> None:
    tensors, _ = with_differences(small)
    file = saved(tmp_path, {**tensors, **named(pairs({"blocks.1.ffn.0": (FFN, WIDTH)}, 2, 3), MUSUBI)})
    plain_bytes = sum(parts_bytes(weights_of(small.network)))
    put(small, file, 0.5)
    wanted, parts, card = passes(small), parted(small.network, small.blocks), SimulatedCard(2**30)
    with card.running():
        card.place(small.network)
        assert card.read_memory().allocated_bytes == plain_bytes + 4 * numbers_in(file, WAN)
        card.evict(small.network)
        card.stream(small.network, parts, kept_bytes=0, slots=2)
        assert all(map(torch.equal, [card.to_host(one) for one in passes(small)], wanted))
        card.evict(small.network)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"blocks.0.self_attn.norm_q.diff": (WIDTH + 1,)}, "models.adapter_shape"),
        ({"blocks.7.norm3.diff": (WIDTH,)}, "models.adapter_layer"),
        ({"blocks.0.norm9.diff": (WIDTH,)}, "models.adapter_key"),
    ],
)
def test_a_difference_that_has_no_place_is_told_and_nothing_is_changed(small, tmp_path, change, told) -> None:
    plain = passes(small)
    lora = named(pairs({"blocks.1.ffn.0": (FFN, WIDTH)}, 2, 3), MUSUBI)
    file = saved(tmp_path, {**lora, **{f"diffusion_model.{name}": drawn(shape) for name, shape in change.items()}})
    with pytest.raises(UserError) as refused:
        put(small, file)
    assert refused.value.message.id == told
    assert all(map(torch.equal, passes(small), plain))


def test_a_whole_matrix_is_not_added_to_one_in_eight_bits(tmp_path: Path) -> None:
    small = network()
    store_weights(small.network, "int8")
    lora = named(pairs({"blocks.1.ffn.0": (FFN, WIDTH)}, 2, 3), MUSUBI)
    file = saved(tmp_path, {**lora, "diffusion_model.blocks.0.ffn.0.diff": drawn((FFN, WIDTH))})
    with pytest.raises(UserError) as refused:
        put(small, file)
    assert refused.value.message.id == "models.adapter_stored"
    assert all(refused.value.message.render(locale) for locale in LOCALES)


def test_a_run_with_a_lora_is_diffusers_own(checkpoint: Path, tmp_path: Path) -> None:
    pipe = WanPipeline.from_pretrained(checkpoint, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    width = pipe.transformer.config.num_attention_heads * pipe.transformer.config.attention_head_dim
    shapes = {f"blocks.{number}.self_attn.{name}": (width, width) for number in range(4) for name in "qkvo"}
    file = saved(tmp_path, named(pairs(shapes, 4, 5), MUSUBI))
    run = Runs("wan", checkpoint, tmp_path)
    request = replace(JOB, num_frames=5, num_inference_steps=2)
    run(request, Plan(), "plain")
    run(replace(request, adapters=(Adapter(str(file), 0.7),)), Plan(chunk_tokens=100), "with")
    pipe.load_lora_weights(file, adapter_name="one")
    pipe.set_adapters(["one"], [0.7])
    wanted = stock(pipe, request, "latent")
    assert relative(run.latents("with"), wanted) < 1e-5
    assert relative(run.latents("plain"), wanted) > 1e-2
