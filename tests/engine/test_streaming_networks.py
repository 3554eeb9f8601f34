"""Real networks whose weights stream: diffusers' and transformers' own, plain, with a LoRA that is not fused, quantised
by torchao, in GGUF and by a wrapper of ours; bit for bit what they compute where all of them is on the card."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers.quantizers.gguf.utils import GGUFLinear, GGUFParameter
from gguf import GGMLQuantizationType, quants
from peft import LoraConfig
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from transformers import T5Config, T5EncoderModel

from i2v.memory import streaming
from i2v.memory.card import SimulatedCard
from i2v.memory.lanes import EarlyLane
from i2v.memory.parts import parts_bytes, weights_of
from i2v.memory.streaming import parted
from i2v.planning.pipeline import held_bytes
from tests.late_lane import LateLane
from tests.small_networks import Small, hunyuan, passes, redrawn


def t5() -> Small:
    torch.manual_seed(0)
    sizes = {"vocab_size": 60, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 4, "num_heads": 4}
    network = redrawn(T5EncoderModel(T5Config(**sizes, feed_forward_proj="gated-gelu")))
    words = torch.randint(0, 60, (1, 11), generator=torch.Generator().manual_seed(2))
    return Small(network, list(network.encoder.block), lambda number: network(words.roll(number)).last_hidden_state)


def with_lora(small: Small) -> None:
    """Not fused: its two products stay beside the layer's own."""
    layers = ["to_q", "to_k", "to_v", "to_out.0", "proj_mlp"]
    small.network.add_adapter(LoraConfig(r=4, lora_alpha=8, target_modules=layers), "style")
    redrawn(small.network)


def in_gguf(small: Small) -> None:
    """As diffusers loads a GGUF file of the kind Q8_0: 32 numbers share a scale."""
    for block in small.blocks:
        for module in list(block.modules()):
            for name, layer in list(module.named_children()):
                if type(layer) is not nn.Linear or layer.in_features % 32:
                    continue
                made = GGUFLinear(layer.in_features, layer.out_features, layer.bias is not None, torch.float32)
                packed = torch.from_numpy(quants.quantize(layer.weight.numpy(), GGMLQuantizationType.Q8_0))
                made.weight = GGUFParameter(packed, quant_type=GGMLQuantizationType.Q8_0)
                made.bias = layer.bias
                setattr(module, name, made.requires_grad_(False))


def quantised(config: str, **options: int) -> Callable[[Small], None]:
    """By torchao, where it is installed. It is not among the tests' requirements: its imports start threads, and every
    process that computes would begin with them."""

    def apply(small: Small) -> None:
        torchao = pytest.importorskip("torchao.quantization")
        for block in small.blocks:
            torchao.quantize_(block, getattr(torchao, config)(**options))

    return apply


class Coded(Tensor):
    """A weight as whole numbers of eight bits with a scale for each row: two tensors in one, as quantising libraries
    make theirs."""

    @staticmethod
    def __new__(cls, codes: Tensor, scale: Tensor) -> Coded:
        return Tensor._make_wrapper_subclass(cls, codes.shape, dtype=scale.dtype, device=codes.device)

    def __init__(self, codes: Tensor, scale: Tensor) -> None:
        self.codes, self.scale = codes, scale

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["codes", "scale"], None

    @classmethod
    def __tensor_unflatten__(cls, inner: dict[str, Tensor], _context: None, _size: Any, _stride: Any) -> Coded:
        return cls(inner["codes"], inner["scale"])

    @classmethod
    def __torch_dispatch__(cls, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.detach.default:
            return cls(args[0].codes, args[0].scale)
        plain = tree_map(lambda one: one.codes * one.scale if isinstance(one, cls) else one, (args, kwargs or {}))
        return func(*plain[0], **plain[1])


def coded(small: Small) -> None:
    """Every matrix of the blocks."""
    for block in small.blocks:
        for layer in block.modules():
            if type(layer) is nn.Linear:
                scale = layer.weight.abs().amax(1, keepdim=True) / 127
                codes = (layer.weight / scale).round().to(torch.int8)
                layer.weight = nn.Parameter(Coded(codes, scale), requires_grad=False)


CHANGES: dict[str, Callable[[Small], None]] = {
    "plain": lambda small: None,
    "LoRA": with_lora,
    "torchao int8": quantised("Int8WeightOnlyConfig", version=2),
    "torchao float8": quantised("Float8WeightOnlyConfig"),
    "GGUF": in_gguf,
    "codes and scales": coded,
}


def check(small: Small, wanted: list[Tensor], *, gather: bool) -> None:
    """For budgets from none to all of the blocks, one to three slots, early and late copies."""
    parts = parted(small.network, small.blocks)
    if gather:
        for block in parts.blocks:
            block.gather()
    sizes = parts.sizes_bytes
    for kept in (0, *(sum(sizes[: count + 1]) for count in range(len(sizes)))):
        for lane, slots in ((EarlyLane, 1), (LateLane, 2), (EarlyLane, 3)):
            card = SimulatedCard(2**30)
            card.lane = lane
            with card.running():
                card.stream(small.network, parts, kept_bytes=kept, slots=slots)
                held = card.read_memory().allocated_bytes
                results = [card.to_host(one) for one in passes(small)]
                card.evict(small.network)
            assert held == parts.outside_bytes + held_bytes(sizes, kept, slots)
            assert all(map(torch.equal, results, wanted))
    assert all(map(torch.equal, passes(small), wanted))


@pytest.mark.parametrize("change", CHANGES)
def test_a_transformer_streams(change: str):
    small = hunyuan()
    plain = passes(small)
    CHANGES[change](small)
    wanted = passes(small)
    assert (change == "plain") == all(map(torch.equal, plain, wanted))
    check(small, wanted, gather=False)
    check(small, wanted, gather=True)


def test_a_text_encoder_streams():
    small = t5()
    check(small, passes(small), gather=True)


@pytest.fixture
def small_tables_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of 60 words counts as a large one."""
    monkeypatch.setattr(streaming, "WORDS_BYTES", 7000)


@pytest.mark.usefixtures("small_tables_too")
def test_words_are_looked_up_on_the_host():
    small = t5()
    wanted, table = passes(small), small.network.get_input_embeddings()
    parts = parted(small.network, small.blocks)
    everything = sum(parts_bytes(weights_of(small.network)))
    in_blocks = sum(sum(parts_bytes(weights_of(block))) for block in small.blocks)
    assert parts.outside_bytes == everything - in_blocks - table.weight.nbytes
    check(small, wanted, gather=False)
    assert "forward" not in vars(table)


@pytest.mark.usefixtures("small_tables_too")
def test_words_of_a_network_that_found_no_room_are_looked_up_as_before():
    small = t5()
    wanted, parts = passes(small), parted(small.network, small.blocks)
    card = SimulatedCard(parts.outside_bytes + parts.sizes_bytes[0])
    with card.running(), pytest.raises(torch.OutOfMemoryError):
        card.stream(small.network, parts, kept_bytes=0, slots=2)
    assert "forward" not in vars(small.network.get_input_embeddings())
    assert all(map(torch.equal, passes(small), wanted))


@pytest.mark.usefixtures("small_tables_too")
def test_a_table_that_a_matrix_shares_comes_to_the_card():
    """As where words are told from the same table as they are looked up in."""
    small = t5()
    table = small.network.get_input_embeddings()
    small.network.told = nn.Linear(32, 60, bias=False)
    small.network.told.weight = table.weight
    parts = parted(small.network, small.blocks)
    assert parts.words == ()
    assert table.weight.nbytes <= parts.outside_bytes


@pytest.mark.parametrize("change", CHANGES)
def test_placing_and_evicting_reach_inside_of_quantised_weights(change: str):
    """The whole network on the card: as many bytes as its weights have, the same results, and nothing left behind."""
    small = hunyuan()
    CHANGES[change](small)
    wanted, whole_bytes = passes(small), parted(small.network, ()).outside_bytes
    card = SimulatedCard(2**30)
    with card.running():
        card.place(small.network)
        assert card.read_memory().allocated_bytes == whole_bytes
        results = [card.to_host(one) for one in passes(small)]
        card.evict(small.network)
    assert all(map(torch.equal, results, wanted))
    assert card.read_memory().allocated_bytes == 0
