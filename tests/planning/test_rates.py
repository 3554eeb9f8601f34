"""Cards by the names that people and NVML give them, and what the data file says of them."""

from __future__ import annotations

import pytest

from i2v.messages import UserError
from i2v.planning.rates import find_card, known_card, known_cards
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
