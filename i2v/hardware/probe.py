"""What this machine has free right now: the card that is taken, the others, RAM, swap and disk.

One `MemoryProbe` answers everybody. It takes a cap, so that a smaller card can be simulated and everything that asks
believes it. No torch is imported and no CUDA context is made, so asking is cheap and takes no card memory. Where there
is no NVIDIA card, a ROCm build of torch is asked for its own, see `rocm.py`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from i2v.hardware.host import Host, read_host
from i2v.hardware.nvml import Gpu, GpuProcess, read_gpus
from i2v.hardware.rocm import read_amd_gpus
from i2v.messages import Message, UserError, message
from i2v.units import GIB

__all__ = ["GIB", "Gpu", "GpuProcess", "Host", "MemoryProbe", "Probe"]


@dataclass(frozen=True)
class Probe:
    """One reading. `gpu` is the card to use, one of `gpus`, or None: then the processor computes."""

    gpus: tuple[Gpu, ...]
    gpu: Gpu | None
    host: Host
    problems: tuple[Message, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "gpus": [gpu.to_json() for gpu in self.gpus],
            "gpu": self.gpu.to_json() if self.gpu else None,
            "host": self.host.to_json(),
            "problems": [problem.to_json() for problem in self.problems],
        }


class MemoryProbe:
    """Reads the machine on demand.

    `cap_gib`: behave as a card of this many GiB. A real card is capped; with no card, or with `cpu`, one simulated
    card of that size stands in. `gpu`: take this card (index or UUID, a prefix is enough) instead of the one with most
    free memory. `cpu`: take no card. `disk_path`: the folder whose disk is measured.
    """

    def __init__(
        self, *, cap_gib: float | None = None, gpu: str | None = None, cpu: bool = False, disk_path: Path
    ) -> None:
        if cap_gib is not None and not (math.isfinite(cap_gib) and cap_gib > 0):
            raise UserError("hardware.bad_cap", value=str(cap_gib))
        self.cap_bytes = None if cap_gib is None else int(cap_gib * GIB)
        self.wanted = gpu
        self.cpu = cpu
        self.disk_path = disk_path

    def read(self) -> Probe:
        """The machine now. Raises UserError when the card asked for is not there, listing those that are."""
        found, problems = read_gpus()
        if not found and (amd := read_amd_gpus()):
            found, problems = amd, ()
        gpus = visible(found, os.environ)
        if found and not gpus:
            problems = (*problems, message("hardware.hidden", value=os.environ["CUDA_VISIBLE_DEVICES"]))
        if self.cap_bytes is not None:
            gpus = tuple(capped(gpu, self.cap_bytes) for gpu in gpus)
            if self.cpu or not gpus:
                simulated = simulated_gpu(self.cap_bytes)
                return Probe((simulated,), simulated, read_host(self.disk_path), problems)
        gpu = None if self.cpu else choose_gpu(gpus, self.wanted)
        return Probe(gpus, gpu, read_host(self.disk_path), problems)


def choose_gpu(gpus: tuple[Gpu, ...], wanted: str | None) -> Gpu | None:
    """The card with most free memory, the first among equals; or the one `wanted` by index or start of its UUID."""
    if wanted is not None:
        matching = tuple(gpu for gpu in gpus if _is(gpu, wanted))
        if not matching and not gpus:
            raise UserError("hardware.no_gpu", gpu=wanted)
        if not matching:
            there = "; ".join(f"{gpu.index}: {gpu.name} ({gpu.uuid})" for gpu in gpus)
            raise UserError("hardware.no_such_gpu", gpu=wanted, there=there)
        gpus = matching
    return max(gpus, key=lambda gpu: gpu.free_bytes or 0, default=None)


def visible(gpus: tuple[Gpu, ...], environ: Mapping[str, str]) -> tuple[Gpu, ...]:
    """The cards that CUDA_VISIBLE_DEVICES leaves us: a scheduler or container set it, and the rest is not ours.

    Like CUDA, the list ends at the first entry that names no card.
    """
    value = environ.get("CUDA_VISIBLE_DEVICES")
    if value is None:
        return gpus
    kept: list[Gpu] = []
    for entry in value.split(","):
        matching = [gpu for gpu in gpus if _is(gpu, entry.strip())]
        if not matching:
            break
        kept.extend(gpu for gpu in matching if gpu not in kept)
    return tuple(kept)


def capped(gpu: Gpu, cap_bytes: int) -> Gpu:
    """The same card with no more than `cap_bytes`, of which what is in use now counts as used."""
    if gpu.total_bytes is not None and gpu.total_bytes <= cap_bytes:
        return gpu
    used = min(gpu.used_bytes or 0, cap_bytes)
    free = cap_bytes - used if gpu.free_bytes is None else min(gpu.free_bytes, cap_bytes - used)
    return replace(gpu, total_bytes=cap_bytes, free_bytes=free, used_bytes=used)


def simulated_gpu(cap_bytes: int) -> Gpu:
    """A card made of host memory, for trying a small card where there is none."""
    return Gpu(
        index=0,
        uuid="SIMULATED",
        name="Simulated card",
        total_bytes=cap_bytes,
        free_bytes=cap_bytes,
        used_bytes=0,
        simulated=True,
    )


def _is(gpu: Gpu, wanted: str) -> bool:
    """Whether `wanted`, an index or the start of a UUID, names this card."""
    if wanted.isdecimal():
        return gpu.index == int(wanted)
    return bool(wanted) and gpu.uuid.lower().startswith(wanted.lower())
