"""How fast a card computes and moves bytes: from the data file by its name, or measured on the card itself."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from i2v.messages import UserError
from i2v.plan import Precision
from i2v.units import GIB

CARDS = Path(__file__).with_name("cards.toml")
# What real layers reach of the peak figures; the ledger corrects them per card, the self-measurement replaces them.
MATRIX_SHARE = 0.45
BANDWIDTH_SHARE = 0.75
LINK_SHARE = 0.7
# Until a network's next operation begins, with what Python does for it: chunks, views, modules. Measured in whole steps
# of I2VGen-XL beside an H100 (bench/results/gpu), five times what the smallest operation takes there.
LAUNCH_SECONDS = 36e-6
# A CUDA context with cuDNN and cuBLAS loaded, as the driver takes it before the first tensor.
CONTEXT_BYTES = int(0.45 * GIB)


# Two cores of the machine this was written on do 50 GFLOP/s through nano's layers in float32 (bench/nano_time.py); a
# core moves some 8 GB/s, and an operation takes about as long to begin as torch takes to find it.
CORE_FLOPS = 25e9
CORE_BANDWIDTH = 4e9
HOST_LAUNCH_SECONDS = 15e-6


@dataclass(frozen=True)
class Rates:
    """What layers reach on one card. FLOP/s by precision, bytes/s of memory and from the host (`link_locked`: from
    page-locked memory, where that is known to be faster), seconds to launch. `convolution_flops`: of convolutions in
    half precision, where it is known that they reach another rate; `wide_convolution_flops`: of those in float32 beside
    half precision, where that is known: cuDNN may compute them in TensorFloat-32 then."""

    name: str
    memory_bytes: int
    half_flops: float
    single_flops: float
    bandwidth: float
    link: float
    launch_seconds: float = LAUNCH_SECONDS
    bf16: bool = True
    link_locked: float = 0.0
    convolution_flops: float = 0.0
    wide_convolution_flops: float = 0.0

    def flops(self, precision: Precision) -> float:
        """FLOP/s in `precision`."""
        if precision == "float32" or (precision == "bfloat16" and not self.bf16):
            return self.single_flops
        return self.half_flops

    def convolution_times(self, precision: Precision) -> float:
        """How many times as long a convolution takes as other operations of as many FLOP."""
        known = self.convolution_flops and self.flops(precision) == self.half_flops
        return self.half_flops / self.convolution_flops if known else 1.0

    def wide_convolution_times(self, precision: Precision) -> float:
        """The same of a convolution in float32, in a plan of `precision`."""
        known = self.wide_convolution_flops and self.flops(precision) == self.half_flops
        return self.half_flops / self.wide_convolution_flops if known else 1.0


@cache
def known_cards() -> dict[str, Rates]:
    """Every card of the data file by its name."""
    cards = tomllib.loads(CARDS.read_text(encoding="utf-8"))["card"]
    return {
        card["name"]: Rates(
            name=card["name"],
            memory_bytes=int(card["memory_gib"] * GIB),
            half_flops=card["half"] * 1e12 * MATRIX_SHARE,
            single_flops=card["single"] * 1e12 * MATRIX_SHARE,
            bandwidth=card["bandwidth"] * 1e9 * BANDWIDTH_SHARE,
            link=card["link"] * 1e9 * LINK_SHARE,
            bf16=card["bf16"],
            wide_convolution_flops=_wide_convolutions(card) * 1e12 * MATRIX_SHARE,
        )
        for card in cards
    }


def _wide_convolutions(card: Mapping[str, Any]) -> float:
    """TFLOP/s of convolutions in float32: of matrix units that know TensorFloat-32, as those do that know bfloat16,
    half of their rate in half precision; else what the card does in float32."""
    return max(card["single"], card["half"] / 2) if card["bf16"] else card["single"]


def find_card(name: str) -> Rates:
    """The card that `name` means, as a person or NVML writes it: "RTX 3060", "NVIDIA GeForce RTX 3060 Laptop GPU".

    Raises UserError naming the known ones when it is none of them."""
    words = _words(name)
    fitting = [card for known, card in known_cards().items() if _words(known) - _MAKERS_WORDS <= words]
    if not fitting:
        raise UserError("planning.unknown_card", name=name, known=", ".join(known_cards()))
    return max(fitting, key=lambda card: len(_words(card.name)))


def known_card(name: str, memory_bytes: int) -> Rates:
    """The card that `name` means; a card nobody has written down is taken for the slowest with as much memory."""
    try:
        return find_card(name)
    except UserError:
        cards = known_cards().values()
        alike = [card for card in cards if card.memory_bytes >= memory_bytes] or list(cards)
        return min(alike, key=lambda card: card.half_flops)


def host_rates(cores: int) -> Rates:
    """The processor as a card: it computes everything in the rate of float32, and moves nothing to itself."""
    flops, bandwidth = CORE_FLOPS * cores, CORE_BANDWIDTH * min(cores, 8)
    return Rates("cpu", 0, flops, flops, bandwidth, bandwidth, HOST_LAUNCH_SECONDS)


_MAKERS_WORDS = frozenset({"nvidia", "geforce", "tesla", "rtx", "gtx"})


def _words(name: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z]+|\d+", name.lower()))
