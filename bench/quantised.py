"""Weights in eight bits and fewer, side by side: what each way weighs, how far it is off, and whether it streams.

    python -m bench.quantised

Two networks with weights drawn anew: one block of Wan 2.1 1.3B at its full size, on 256 tokens, and a small Wan, one
step. Both are computed in float32, against whole weights. `streams`: whether the small network, its blocks taking turns
on a card of host memory, computes what it computes without, bit for bit. `foretold`: whether a dry run of the small
network on fake tensors finds the bytes that a real one holds. Kept as they are: norms, embeddings, biases, the last
layer, in every way alike. torchao is asked where it is installed (0.18.0 for torch 2.13); of its four bits that weigh
four it has none for a processor. GGUF has kinds that only llama.cpp writes (Q4_K and others); what they decode to is
tested, and they are not made here. A minute; prints a table and writes bench/results/quantised.json.
"""

from __future__ import annotations

import copy
import importlib
import json
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from diffusers import WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanTransformerBlock
from gguf import GGMLQuantizationType
from gguf.quants import quantize
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from i2v.dryrun.runner import MeteredCard
from i2v.memory.card import SimulatedCard
from i2v.memory.gguf_layers import row_bytes, store_as
from i2v.memory.parts import parts_bytes, weights_of
from i2v.memory.precision import KEPT, store_weights
from i2v.memory.streaming import parted
from i2v.units import GIB

RESULTS = Path(__file__).parent / "results" / "quantised.json"
WIDTH, INNER, HEADS, TOKENS, WORDS = 1536, 8960, 12, 256, 512
GGUF_KINDS = ("Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0")
PASSES = 3

Way = Callable[[nn.Module], object]


def is_stored(layer: nn.Module, name: str) -> bool:
    """Whether a layer is stored otherwise: the same in every way."""
    return isinstance(layer, nn.Linear) and not KEPT.search(name)


def as_gguf(kind: GGMLQuantizationType, network: nn.Module) -> None:
    """Store the layers of `network` as a file of this kind has them; on fake tensors bytes without contents."""
    for name, layer in network.named_modules():
        if not is_stored(layer, name):
            continue
        out, into = layer.weight.shape
        if type(layer.weight.data) is Tensor:
            weight = torch.from_numpy(quantize(layer.weight.float().numpy(), kind))
        else:
            weight = torch.empty(out, row_bytes(into, kind), dtype=torch.uint8)
        store_as(layer, weight, kind)


def by_torchao(config: str, network: nn.Module) -> None:
    """Have torchao store the layers of `network`."""
    torchao = importlib.import_module("torchao.quantization")
    torchao.quantize_(network, getattr(torchao, config)(), filter_fn=is_stored)


def ways() -> dict[str, Way]:
    """By what they are called."""
    found: dict[str, Way] = {f"i2v {name}": partial(_stored, name) for name in ("int8", "float8")}
    if find_spec("torchao") is not None:
        named = {"int8": "Int8WeightOnlyConfig", "float8": "Float8WeightOnlyConfig"}
        found |= {f"torchao {name}": partial(by_torchao, config) for name, config in named.items()}
    return found | {f"GGUF {name}": partial(as_gguf, GGMLQuantizationType[name]) for name in GGUF_KINDS}


def _stored(weights: Any, network: nn.Module) -> None:
    store_weights(network, weights)


def block_and_inputs() -> tuple[nn.Module, tuple[Any, ...]]:
    """A block at its full size, and what it is given."""
    torch.manual_seed(0)
    block = WanTransformerBlock(WIDTH, INNER, HEADS, "rms_norm_across_heads", True).eval().requires_grad_(False)
    turned = tuple(made(torch.randn(1, TOKENS, 1, WIDTH // HEADS)) for made in (torch.cos, torch.sin))
    given = torch.randn(1, TOKENS, WIDTH), torch.randn(1, WORDS, WIDTH), 0.5 * torch.randn(1, 6, WIDTH), turned
    return block, given


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return (
        WanTransformer3DModel(
            num_attention_heads=4, attention_head_dim=24, text_dim=32, freq_dim=32, ffn_dim=192, num_layers=4
        )
        .eval()
        .requires_grad_(False)
    )


def step_inputs() -> dict[str, Any]:
    drawn = torch.Generator().manual_seed(1)
    return {
        "hidden_states": torch.randn(1, 16, 3, 8, 8, generator=drawn),
        "timestep": torch.tensor([500.0]),
        "encoder_hidden_states": torch.randn(1, WORDS, 32, generator=drawn),
    }


def answered(network: nn.Module, given: dict[str, Any]) -> Tensor:
    return network(**given, return_dict=False)[0]


def off(found: Tensor, wanted: Tensor) -> float:
    return ((found - wanted).norm() / wanted.norm()).item()


def seconds_of(call: Callable[[], object]) -> float:
    """The best of a few passes."""
    times = []
    for _ in range(PASSES):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return min(times)


def streams(network: nn.Module, given: dict[str, Any], wanted: Tensor) -> bool:
    card = SimulatedCard(GIB)
    with card.running():
        card.stream(network, parted(network, [*network.blocks]), kept_bytes=0, slots=2)
        found = card.to_host(answered(network, {name: card.to_card(one) for name, one in given.items()}))
        card.evict_all()
    return torch.equal(found, wanted)


def held_bytes(network: nn.Module, given: dict[str, Any]) -> int:
    card = MeteredCard()
    with card.running():
        card.place(network)
        answered(network, {name: card.to_card(one) for name, one in given.items()})
        return card.held().activations_bytes


def dry_bytes(way: Way, given: dict[str, Any]) -> int:
    with FakeTensorMode(allow_non_fake_inputs=True):
        network = small_network()
        way(network)
        return held_bytes(network, {name: torch.empty_like(one) for name, one in given.items()})


def row(name: str, way: Way) -> dict[str, Any]:
    whole, given = block_and_inputs()
    changed = copy.deepcopy(whole)
    way(changed)
    change = whole(*given) - given[0]
    small, step = small_network(), step_inputs()
    stored = copy.deepcopy(small)
    way(stored)
    found = answered(stored, step)
    return {
        "way": name,
        "block_mib": sum(parts_bytes(weights_of(changed))) / 2**20,
        "block_off": off(changed(*given) - given[0], change),
        "step_off": off(found, answered(small, step)),
        "seconds": seconds_of(lambda: changed(*given)),
        "streams": streams(stored, step, found),
        "foretold": dry_bytes(way, step) == held_bytes(stored, step),
    }


@torch.no_grad()
def main() -> None:
    torch.set_num_threads(1)
    whole, given = block_and_inputs()
    rows = []
    for name, way in ways().items():
        rows.append(row(name, way))
        print(json.dumps(rows[-1]))
    result = {
        "whole_mib": sum(parts_bytes(weights_of(whole))) / 2**20,
        "whole_seconds": seconds_of(lambda: whole(*given)),
        "torchao": version("torchao") if find_spec("torchao") is not None else None,
        "rows": rows,
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
