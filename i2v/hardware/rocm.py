"""AMD cards, where a ROCm build of torch is installed: torch itself is asked for them, by a process of its own, once.
What is free is then read from the kernel, as often as anybody likes. No such card was at hand: all of it is untested.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from i2v.hardware.nvml import Gpu
from i2v.messages import message

log = logging.getLogger(__name__)

KERNEL_DRIVER = Path("/dev/kfd")
PCI_DEVICES = Path("/sys/bus/pci/devices")
COMMAND = (sys.executable, "-m", "i2v.worker.rocm_cards")
SECONDS_TO_ASK = 120.0  # torch is imported, from a slow disk and beside other work


@dataclass(frozen=True)
class RocmCard:
    """A card as torch numbers and names it. `pci`: its place, as the kernel names it; "" where torch does not say."""

    index: int
    name: str
    total_bytes: int
    free_bytes: int
    pci: str = ""


@cache
def rocm_cards() -> tuple[RocmCard, ...]:
    """The cards that a ROCm build of torch computes on; none where there is no such build, or it does not answer."""
    if not KERNEL_DRIVER.exists() or not _is_rocm_build():
        return ()
    # All of them, by their own numbers: which are ours is looked at afterwards.
    environ = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    try:
        ran = subprocess.run(
            COMMAND, cwd=Path(__file__).resolve().parents[2], env=environ, stdin=subprocess.DEVNULL,
            capture_output=True, timeout=SECONDS_TO_ASK, check=True,
        )  # fmt: skip
        return tuple(RocmCard(**values) for values in json.loads(ran.stdout))
    except (OSError, subprocess.SubprocessError, ValueError, TypeError) as error:
        log.warning("Torch was not to be asked for its cards: %s", error)
        return ()


def read_amd_gpus(
    cards: Callable[[], tuple[RocmCard, ...]] = rocm_cards, devices: Path = PCI_DEVICES
) -> tuple[Gpu, ...]:
    """Every card that torch named, with what is free on it now; each says that it is untested."""
    return tuple(_gpu(card, devices) for card in cards())


def _gpu(card: RocmCard, devices: Path) -> Gpu:
    used = _used_bytes(devices / card.pci) if card.pci else None
    free = card.free_bytes if used is None else max(0, card.total_bytes - used)
    return Gpu(
        index=card.index,
        uuid=str(card.index),
        name=card.name,
        total_bytes=card.total_bytes,
        free_bytes=free,
        used_bytes=card.total_bytes - free,
        problems=(message("hardware.rocm_untested", card=card.name),),
    )


def _used_bytes(device: Path) -> int | None:
    try:
        return int((device / "mem_info_vram_used").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _is_rocm_build() -> bool:
    try:
        return "+rocm" in version("torch")
    except PackageNotFoundError:
        return False
