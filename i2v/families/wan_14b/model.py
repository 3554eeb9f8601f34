"""The large Wan 2.1 for videos from sentences: the small one's code."""

from __future__ import annotations

from pathlib import Path

import torch

from i2v.families.wan import model as wan


def load(folder: Path, precision: torch.dtype) -> wan.Wan:
    """A checkpoint folder, whose networks are read when they are needed; safetensors only."""
    return wan.load(folder, precision)
