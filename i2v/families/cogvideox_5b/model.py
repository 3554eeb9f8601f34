"""CogVideoX 5B: the code of 2B, which its configuration tells what to do otherwise."""

from __future__ import annotations

from pathlib import Path

import torch

from i2v.families.cogvideox import model as cogvideox


def load(folder: Path, precision: torch.dtype) -> cogvideox.CogVideoX:
    """A checkpoint folder, whose networks are read when they are needed; safetensors only."""
    return cogvideox.load(folder, precision)
