"""What a step of Wan's transformer holds on a card: ours, and diffusers' offload of whole models, of one layer after
the other, and of groups by block and by layer.

    python -m bench.offloads

In one run, on the same weights and the same noise, on the processor: what is live counts, as on a simulated card. Group
offload can not be run without a card from memory to memory; here it lays its groups down on the disk, and what it reads
from there stands on the card. Its streams need a card, and are not in the figures. Model offload has the whole network
on the card while it works; sequential offload copies each layer's weights there when the layer does. Prints a table and
writes bench/results/offloads.json. Two minutes.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import cpu_offload, cpu_offload_with_hook, hooks
from diffusers import WanTransformer3DModel
from diffusers.hooks import apply_group_offloading
from diffusers.hooks.group_offloading import ModuleGroup
from torch import Tensor, nn

from i2v.families.wan.model import transformer_blocks
from i2v.families.wan.programs import PROGRAMS
from i2v.memory.card import Card, SimulatedCard
from i2v.memory.storages import StorageTracker
from i2v.memory.streaming import parted
from i2v.memory.tokens import token_chunks
from i2v.units import GIB

MIB = 2**20
SIZES = {"num_attention_heads": 6, "attention_head_dim": 128, "text_dim": 512, "ffn_dim": 3072, "num_layers": 12}
LATENTS = (1, 16, 7, 40, 60)  # of 480 x 320 pixels, 25 frames: activations are to a block as at full size
CHUNK = 256  # tokens of 4200
RESULTS = Path(__file__).parent / "results" / "offloads.json"


@dataclass(frozen=True)
class Row:
    """One way. `apart`: the largest difference from the network that is wholly on the card, over its largest value."""

    way: str
    peak_mib: float
    apart: float


def network() -> WanTransformer3DModel:
    """The same weights each time."""
    torch.manual_seed(0)
    return WanTransformer3DModel(**SIZES).eval().requires_grad_(False)


def step(of: WanTransformer3DModel) -> Tensor:
    """What it answers to the same noise."""
    drawn = torch.Generator().manual_seed(1)
    latents, text = torch.randn(LATENTS, generator=drawn), torch.randn(1, 64, SIZES["text_dim"], generator=drawn)
    return of(hidden_states=latents, timestep=torch.tensor([700]), encoder_hidden_states=text, return_dict=False)[0]


def resident() -> tuple[Tensor, int]:
    """All weights on the card, diffusers' blocks as they are."""
    card, model = SimulatedCard(64 * GIB), network()
    with card.running():
        card.place(model)
        return step(model).clone(), card.read_memory().peak_allocated_bytes


def offloaded(kind: str) -> tuple[Tensor, int]:
    """diffusers' group offload."""
    model, host = network(), torch.device("cpu")
    with tempfile.TemporaryDirectory() as folder:
        apply_group_offloading(
            model, onload_device=host, offload_device=host, offload_type=f"{kind}_level",
            num_blocks_per_group=1 if kind == "block" else None, offload_to_disk_path=folder,
        )  # fmt: skip
        tracker = StorageTracker()
        with leaving_uncounted(), tracker:
            made = step(model)
        return made, tracker.peak_bytes


class Copies(dict[str, Tensor]):
    """Weights that are copied whenever they are asked for, as to a card."""

    def __getitem__(self, name: str) -> Tensor:
        return super().__getitem__(name).clone()


def model_offload() -> tuple[Tensor, int]:
    """diffusers' `enable_model_cpu_offload`: the network comes whole before it works, and leaves when another does."""
    card, model = SimulatedCard(64 * GIB), network()
    whole, hook = cpu_offload_with_hook(model, torch.device("cpu"))
    with card.running():
        card.place(model)
        made = step(whole).clone(), card.read_memory().peak_allocated_bytes
    hook.remove()
    return made


def sequential_offload() -> tuple[Tensor, int]:
    """diffusers' `enable_sequential_cpu_offload`."""
    model, tracker = network(), StorageTracker()
    cpu_offload(model, torch.device("cpu"), offload_buffers=True, state_dict=Copies(model.state_dict()))
    move = hooks.set_module_tensor_to_device

    def uncounted(module: nn.Module, name: str, device: Any, *given: Any, **more: Any) -> None:
        with Card.on_host() if device == "meta" else nullcontext():  # in the place of what leaves, without a value
            move(module, name, device, *given, **more)

    hooks.set_module_tensor_to_device = uncounted
    try:
        with tracker:
            return step(model), tracker.peak_bytes
    finally:
        hooks.set_module_tensor_to_device = move


@contextmanager
def leaving_uncounted() -> Iterator[None]:
    """A group that leaves has empty tensors on the host in the place of its own: those are not on the card."""
    leave = ModuleGroup._offload_to_disk

    def on_host(group: ModuleGroup) -> None:
        with Card.on_host():
            leave(group)

    ModuleGroup._offload_to_disk = on_host
    try:
        yield
    finally:
        ModuleGroup._offload_to_disk = leave


def streamed(tokens: int, slots: int = 2) -> tuple[Tensor, int]:
    """Our stream of blocks in so many slots, so many tokens at a time; 0 for all."""
    card, model = SimulatedCard(64 * GIB), network()
    parts = parted(model, transformer_blocks(model))
    with card.running(), token_chunks(model, PROGRAMS, tokens):
        card.stream(model, parts, kept_bytes=0, slots=slots)
        return step(model).clone(), card.read_memory().peak_allocated_bytes


WAYS: dict[str, Callable[[], tuple[Tensor, int]]] = {
    "all on the card": resident,
    "diffusers, model offload": model_offload,
    "diffusers, sequential offload": sequential_offload,
    "diffusers, group offload by block": lambda: offloaded("block"),
    "diffusers, group offload by layer": lambda: offloaded("leaf"),
    "ours, streamed": lambda: streamed(0),
    f"ours, streamed, {CHUNK} tokens at a time": lambda: streamed(CHUNK),
    f"ours, streamed in one slot, {CHUNK} tokens at a time": lambda: streamed(CHUNK, 1),
}


def main() -> None:
    rows: list[Row] = []
    wanted: Tensor | None = None
    with torch.no_grad():
        for way, run in WAYS.items():
            made, peak = run()
            wanted = made if wanted is None else wanted
            apart = float((made - wanted).abs().max() / wanted.abs().max())
            rows.append(Row(way, round(peak / MIB, 1), apart))
            print(rows[-1], flush=True)
    RESULTS.write_text(json.dumps({"rows": [asdict(one) for one in rows]}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
