"""How torch's allocator is told to keep a card's memory, by an environment variable of the process that computes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

NAMES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")


def allocator_setting(kernel: str, system_root: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Torch's expandable segments, which keep card memory from going to pieces, where they are safe and `environ` says
    nothing else. `kernel` is the release of the running system.

    They fail on WSL (the kernel says microsoft), hang on ROCm and are fatal on Tegra.
    """
    if any(name in environ for name in NAMES):
        return {}
    wsl = "microsoft" in kernel.lower()
    tegra = "tegra" in kernel.lower() or (system_root / "etc/nv_tegra_release").exists()
    rocm = (system_root / "dev/kfd").exists()
    return {} if wsl or tegra or rocm else {NAMES[0]: "expandable_segments:True"}
