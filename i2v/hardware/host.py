"""The machine around the card: RAM, swap, disk, cores, inside the limits a container sets."""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from i2v.hardware.disk import SATA, read_rate

ALLOCATOR_VARIABLES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
CGROUP = Path("/sys/fs/cgroup")
CPUINFO = Path("/proc/cpuinfo")
# What torch asks of a processor before it computes bfloat16 with oneDNN (`mkldnn_bf16_device_check` in its source); any
# of these sets will do. Without one a convolution takes about fifty times as long as in float32.
_BFLOAT16_FEATURES = ({"avx512vl", "avx512bw", "avx512dq"}, {"avx_ne_convert"}, {"bf16"})


@dataclass(frozen=True)
class Host:
    """`ram_available_bytes` can be taken without swapping; `disk_free_bytes` is of the folder the probe was given;
    `bfloat16` says whether the processor computes in it at speed, `wsl` whether this Linux runs under Windows,
    `expandable_segments` whether torch keeps a card's memory in such. `disk_read_rate`: bytes/s; see `disk.py`."""

    ram_total_bytes: int
    ram_available_bytes: int
    swap_total_bytes: int
    swap_free_bytes: int
    disk_free_bytes: int
    cpu_count: int
    bfloat16: bool = True
    wsl: bool = False
    expandable_segments: bool = True
    disk_read_rate: float = SATA

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def read_host(disk_path: Path) -> Host:
    """The machine now. `disk_path` need not exist yet: its nearest existing parent is measured."""
    swap = psutil.swap_memory()
    total, available = read_ram()
    return Host(
        ram_total_bytes=total,
        ram_available_bytes=available,
        swap_total_bytes=swap.total,
        swap_free_bytes=swap.free,
        disk_free_bytes=disk_free(disk_path),
        cpu_count=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        bfloat16=computes_bfloat16(CPUINFO),
        wsl=runs_under_windows(),
        expandable_segments=expandable_segments(platform.release(), Path("/"), os.environ),
        # Windows makes its Linux a virtual disk, and says that it spins.
        disk_read_rate=SATA if runs_under_windows() else read_rate(disk_path),
    )


def read_ram() -> tuple[int, int]:
    """Total and available RAM now, in bytes."""
    memory = psutil.virtual_memory()
    return within_limit(memory.total, memory.available, CGROUP)


def runs_under_windows(kernel: str | None = None) -> bool:
    """Whether this is WSL: the release of its kernel names Microsoft."""
    return "microsoft" in (kernel or platform.release()).lower()


def expandable_segments(kernel: str, system_root: Path, environ: Mapping[str, str]) -> bool:
    """Whether torch keeps a card's memory in expandable segments here: as `environ` says, else where they are safe.
    `kernel` is the release of the running system.

    They fail on WSL, hang on ROCm and are fatal on Tegra.
    """
    for name in ALLOCATOR_VARIABLES:
        if name in environ:
            return "expandable_segments:true" in environ[name].lower()
    tegra = "tegra" in kernel.lower() or (system_root / "etc/nv_tegra_release").exists()
    rocm = (system_root / "dev/kfd").exists()
    return not (runs_under_windows(kernel) or tegra or rocm)


@cache
def computes_bfloat16(cpuinfo: Path) -> bool:
    """Whether the processor that Linux describes there computes bfloat16 at speed; True where nothing is described."""
    try:
        described = re.search(r"^(?:flags|Features)\s*:(.*)$", cpuinfo.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return True
    return described is None or any(features <= set(described[1].split()) for features in _BFLOAT16_FEATURES)


def disk_free(path: Path) -> int:
    """Bytes free on the disk that holds `path`, or will hold it; 0 where that cannot be told."""
    path = path.absolute()
    for place in (path, *path.parents):
        try:
            return shutil.disk_usage(place).free
        except FileNotFoundError:
            continue
        except OSError:
            break
    return 0


def within_limit(total: int, available: int, cgroup: Path) -> tuple[int, int]:
    """Total and available RAM, in bytes, no more than the control group of this container allows (version 2 or 1).

    A container sees the whole machine's figures but is killed at its own limit. Pages of files that were read
    (`inactive_file`) are given back under pressure, so they count as available.
    """
    for limit_name, used_name, reclaimable_name in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
    ):
        limit, used = _number(cgroup / limit_name), _number(cgroup / used_name)
        if limit is None or used is None or limit >= total:
            continue
        used -= _statistic((cgroup / used_name).with_name("memory.stat"), reclaimable_name)
        return limit, max(0, min(available, limit - used))
    return total, available


def _number(path: Path) -> int | None:
    """The number in a control group file, or None: "max", absent, or not readable."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _statistic(path: Path, name: str) -> int:
    try:
        lines = (line.split() for line in path.read_text().splitlines())
        return next((int(line[1]) for line in lines if line[0] == name), 0)
    except OSError:
        return 0
