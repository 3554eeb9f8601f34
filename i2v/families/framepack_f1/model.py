"""FramePack F1: as FramePack, and its sections are made from the first to the last. Diffusers calls it "vanilla"."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch

from i2v.families.framepack.model import FramePack, seeing_parts


def load(folder: Path, precision: torch.dtype) -> FramePackForward:
    """A checkpoint folder, whose networks are read when they are needed; safetensors only."""
    return FramePackForward(**seeing_parts(folder, precision))


class FramePackForward(FramePack):
    """A loaded checkpoint; see `families.base.FamilyModel` for the contract of each method."""

    forward: ClassVar = True
