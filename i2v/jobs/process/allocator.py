"""How torch's allocator is told to keep a card's memory, by an environment variable of the process that computes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from i2v.hardware.host import ALLOCATOR_VARIABLES, expandable_segments


def allocator_setting(kernel: str, system_root: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Torch's expandable segments, which keep card memory from going to pieces, where they are safe and `environ` says
    nothing of the allocator. `kernel` is the release of the running system."""
    if any(name in environ for name in ALLOCATOR_VARIABLES) or not expandable_segments(kernel, system_root, environ):
        return {}
    return {ALLOCATOR_VARIABLES[0]: "expandable_segments:True"}
