"""The machine around the card: RAM, swap, disk, cores, inside the limits a container sets."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from i2v.hardware.disk import SATA, read_rate

ALLOCATOR_VARIABLES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
CGROUP = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
CPUINFO = Path("/proc/cpuinfo")
# What torch asks of a processor before it computes bfloat16 with oneDNN (`mkldnn_bf16_device_check` in its source); any
# of these sets will do. Without one a convolution takes about fifty times as long as in float32.
_BFLOAT16_FEATURES = ({"avx512vl", "avx512bw", "avx512dq"}, {"avx_ne_convert"}, {"bf16"})


@dataclass(frozen=True)
class _Figures:
    """What the files of a control group are called that tell its limit and what it uses, and of `memory.stat` the lines
    that tell what of this is given back under pressure: pages of files."""

    limit: str
    used: str
    given_back: tuple[str, ...]


_FIGURES = (
    _Figures("memory.max", "memory.current", ("inactive_file", "active_file")),
    _Figures("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file")),
)


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


def private_bytes(pid: int, processes: Path = Path("/proc")) -> int:
    """What RAM would have free again if that process ended. Pages of files do not count, which are free to others as
    they are, and of what it shares with the process that it was forked from its part. 0 where the system does not
    tell."""
    try:
        lines = (processes / str(pid) / "smaps_rollup").read_text(encoding="ascii").splitlines()
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss_Anon:")), 0)
    except (OSError, ValueError):
        return 0


def trim_heap() -> None:
    """Give the system back what the C library keeps of freed memory, to hand it out again."""
    if sys.platform == "linux":
        with suppress(AttributeError):  # a C library other than glibc
            ctypes.CDLL(None).malloc_trim(0)


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


def within_limit(total: int, available: int, cgroup: Path, own: Path = OWN_GROUPS) -> tuple[int, int]:
    """Total and available RAM, in bytes, no more than the control groups that this process is in allow (version 2 or
    1): its own and all above it, as far as they are seen at `cgroup`. `own` says which they are.

    A container or a service sees the whole machine's figures but is killed at its own limit. Pages of files are given
    back under pressure, so they count as available, as they do without a limit.
    """
    limited = total
    for group in _groups(cgroup, own):
        for names in _FIGURES:
            limit, used = _number(group / names.limit), _number(group / names.used)
            if limit is None or used is None or limit >= total:
                continue
            used -= sum(_statistic(group / "memory.stat", name) for name in names.given_back)
            limited, available = min(limited, limit), max(0, min(available, limit - used))
    return limited, available


def _groups(cgroup: Path, own: Path) -> Iterator[Path]:
    """The folders of the groups that bound the memory of this process, the outermost first. A container has its own
    group where the machine has its outermost, and may name another that it does not see."""
    inner: dict[str, list[str]] = {"": [], "memory": []}  # by controller: version 2 has none
    with suppress(OSError, ValueError):
        for line in own.read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            for controller in inner.keys() & set(controllers.split(",")):
                parts = path.split("/")
                inner[controller] = [] if ".." in parts else [part for part in parts if part]
    for controller, parts in inner.items():
        yield from (cgroup.joinpath(controller, *parts[:count]) for count in range(len(parts) + 1))


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
