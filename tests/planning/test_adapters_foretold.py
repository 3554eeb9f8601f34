"""LoRAs in the prediction: their bytes to the byte, and never less than a run holds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import HunyuanVideoTransformer3DModel
from safetensors.torch import save_file
from torch import nn

from i2v.families.adapters import ChosenAdapter, put_on, take_off
from i2v.families.lora_names import HUNYUAN_VIDEO
from i2v.memory.card import SimulatedCard
from i2v.models.adapters import numbers_in
from i2v.plan import Placement, Plan, everywhere
from i2v.planning.cost import predict
from i2v.planning.known import ADAPTERS_SLACK, BlockBytes, Found, PhaseRun
from i2v.planning.machine import HOST_BASELINE_BYTES
from i2v.planning.planner import with_adapters
from i2v.planning.work import NO_WORK
from i2v.units import GIB
from tests.lora_files import attention_of, named, pairs
from tests.planning.support import card, job

MIB = 2**20
FOUND = Found(
    (
        PhaseRun("text", ("text_encoder",), 5 * MIB, 0, 0, 0, 0, NO_WORK),
        PhaseRun("denoise", ("unet",), 100 * MIB, 0, 0, 0, 0, NO_WORK),
    ),
    {"text_encoder": 700 * MIB, "unet": 2700 * MIB},
    {"unet": BlockBytes((900 * MIB, 1800 * MIB), 0)},
)
CARD = replace(card(12), context_bytes=0)
NUMBERS = 75 * MIB  # 150 MiB in half precision


def ram_mib(plan: Plan, mapped: str = "") -> int:
    found, _ = with_adapters(lambda *_: (FOUND, True), NUMBERS)(job(), plan)
    predicted = predict(found, job(), plan, CARD, mapped=frozenset(mapped.split()))
    return (predicted.ram_peak_bytes - HOST_BASELINE_BYTES["cuda"]) // MIB


def test_their_bytes_are_added_to_what_denoises_and_to_nothing_else() -> None:
    for precision, mib in (("float16", 150), ("float32", 300)):
        found, exact = with_adapters(lambda *_: (FOUND, True), NUMBERS)(job(), Plan(precision=precision))
        assert exact
        assert found.weights == {"text_encoder": 700 * MIB, "unet": (2700 + mib) * MIB}
        assert found.blocks["unet"].sizes == ((900 + mib // 3) * MIB, (1800 + mib * 2 // 3) * MIB)
        text, denoise = found.phases
        assert text == FOUND.phases[0]
        assert denoise.activations_bytes == int(100 * MIB * ADAPTERS_SLACK)
    assert with_adapters(lambda *_: None, NUMBERS)(job(), Plan()) is None


def test_a_streamed_network_has_them_in_its_blocks() -> None:
    found = FOUND.with_adapters(150 * MIB)
    plan = Plan(device="cuda", precision="float16", places=(*everywhere("streamed"), Placement("unet", "streamed", 0)))
    more = [predict(one, job(), plan, CARD).phases[1].weights_bytes for one in (FOUND, found)]
    assert more[1] - more[0] == 2 * 100 * MIB  # two slots for the larger block


@pytest.mark.parametrize(
    ("weights", "mapped", "mib"),
    [
        ("full", "", 700 + 2700 + 150),
        ("full", "unet text_encoder", 150),  # the network's own lie in their file
        ("int8", "", 700 + 2 * 2700 + 150),
        ("int8", "unet text_encoder", 2700 + 150),
    ],
)
def test_they_are_in_ram_whatever_else_is_not(weights: str, mapped: str, mib: int) -> None:
    plan = Plan(device="cuda", precision="float16", weights=weights, lossless=weights == "full")
    assert ram_mib(plan, mapped) == mib


def test_activations_are_never_more_than_foretold(tmp_path: Path) -> None:
    """HunyuanVideo's network in small: LoRAs on its attention, and on every linear layer of its blocks, one and two at
    once; the rank a fourth of its width, where real ones are a twentieth."""
    torch.manual_seed(0)
    network = HunyuanVideoTransformer3DModel(
        num_attention_heads=4, attention_head_dim=16, in_channels=4, out_channels=4, num_layers=1, num_single_layers=1,
        num_refiner_layers=1, text_embed_dim=24, pooled_projection_dim=12, rope_axes_dim=(4, 6, 6),
    ).eval().requires_grad_(False)  # fmt: skip
    latents, text, pooled = torch.randn(1, 4, 5, 32, 32), torch.randn(1, 9, 24), torch.randn(1, 12)

    def held() -> tuple[int, int]:
        """Bytes of weights, and at most beside them."""
        card = SimulatedCard(GIB)
        with card.running():
            card.place(network)
            weights = card.read_memory().allocated_bytes
            card.reset_peak()
            network(
                hidden_states=latents, timestep=torch.tensor([900]), encoder_hidden_states=text,
                encoder_attention_mask=torch.ones(1, 9, dtype=torch.int64), pooled_projections=pooled,
                guidance=torch.tensor([6000.0]), return_dict=False,
            )  # fmt: skip
            peak = card.read_memory().peak_allocated_bytes
            card.evict(network)
        return weights, peak - weights

    plain_weights, plain = held()
    linear = ((name, one) for name, one in network.named_modules() if isinstance(one, nn.Linear))
    everything = {name: tuple(one.weight.shape) for name, one in linear if HUNYUAN_VIDEO.layer(name)}
    for shapes in (attention_of(network), everything):
        file = tmp_path / "one.safetensors"
        save_file(named(pairs(shapes, 16, 0)), file)
        for times in (1, 2):
            put_on(network, [ChosenAdapter(file, 1.0)] * times, HUNYUAN_VIDEO, torch.float32)
            weights, activations = held()
            take_off(network)
            assert weights == plain_weights + times * 4 * numbers_in(file, HUNYUAN_VIDEO)
            assert activations <= plain * ADAPTERS_SLACK
    assert activations > plain  # or nothing would have been proved
