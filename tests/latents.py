"""What a run has left of its latents."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from i2v.engine.checkpoint import read_progress


def load_latents(path: Path) -> Tensor:
    """The latents in a file of ours, finished or not, on the host."""
    return read_progress(path)[0].latents
