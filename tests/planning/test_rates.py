"""Cards by the names that people and NVML give them, and what the data file says of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from i2v.dryrun.work_tracker import WorkTracker
from i2v.messages import UserError
from i2v.plan import Plan
from i2v.planning.cost import seconds
from i2v.planning.machine import card_machine
from i2v.planning.rates import find_card, known_card, known_cards
from i2v.planning.work import Work
from i2v.units import GIB


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("RTX 3060", "RTX 3060"),
        ("rtx3060", "RTX 3060"),
        ("3060 ti", "RTX 3060 Ti"),
        ("NVIDIA GeForce RTX 3060 Laptop GPU", "RTX 3060"),
        ("NVIDIA GeForce RTX 4060 Ti", "RTX 4060 Ti"),
        ("T4", "Tesla T4"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA H100 PCIe", "H100"),
    ],
)
def test_a_card_by_its_name(written, meant):
    assert find_card(written).name == meant


def test_a_card_nobody_has_written_down_is_named_as_such_and_taken_for_a_slow_one():
    with pytest.raises(UserError, match="Voodoo"):
        find_card("Voodoo 2")
    taken = known_card("Voodoo 2", 8 * GIB)
    alike = [card for card in known_cards().values() if card.memory_bytes >= 8 * GIB]
    assert taken.half_flops == min(card.half_flops for card in alike)


def test_every_card_has_sane_figures():
    cards = known_cards()
    assert {int(card.memory_bytes / GIB) for card in cards.values()} >= {4, 6, 8, 12, 16, 24, 48, 80, 141}
    for card in cards.values():
        assert card.single_flops <= card.half_flops
        assert 5e10 < card.bandwidth < 5e12
        assert card.link < card.bandwidth


def test_bfloat16_counts_as_float32_where_the_card_has_none():
    turing, ampere = find_card("RTX 2060"), find_card("RTX 3060")
    assert turing.flops("bfloat16") == turing.flops("float32") < turing.flops("float16")
    assert ampere.flops("bfloat16") == ampere.flops("float16")


def test_a_convolution_in_float32_beside_half_precision_takes_a_cards_time_for_that():
    """TensorFloat-32 has half of a card's rate in half precision; cards before Ampere do not know it."""
    convolutions = Work(convolution_flops=1e12)
    wide = replace(convolutions, wide_convolution_flops=1e12)
    for name, times in (("RTX 3090", 2), ("H100", 2), ("RTX 2080 Ti", 4)):
        rates = find_card(name)
        machine = card_machine(rates, 8 * GIB, 64 * GIB, 64 * GIB)
        half = Plan(precision="float16")
        more = seconds(wide, half, machine) - seconds(convolutions, half, machine)
        assert more == pytest.approx(1e12 * (times - 1) / rates.half_flops, rel=0.02), name
        assert seconds(wide, Plan(), machine) == seconds(convolutions, Plan(), machine), "a plan of float32"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_dry_run_counts_convolutions_in_float32(dtype):
    with FakeTensorMode(), WorkTracker() as tracker:
        functional.conv3d(torch.empty(1, 8, 4, 16, 16, dtype=dtype), torch.empty(8, 8, 3, 3, 3, dtype=dtype), padding=1)
        work = tracker.take()
    assert work.convolution_flops == 2 * 8 * 8 * 27 * 4 * 16 * 16
    assert work.wide_convolution_flops == (work.convolution_flops if dtype == torch.float32 else 0)
    assert Work.from_json(work.to_json()) == work
