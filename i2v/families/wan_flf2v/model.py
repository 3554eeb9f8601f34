"""Wan between two pictures: as from one, and the last frame is given as well. CLIP sees both."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch

from i2v.families.wan_i2v.model import WanFromPictures, seeing_parts
from i2v.families.wan_i2v.pictures import FIRST, LAST


def load(folder: Path, precision: torch.dtype) -> WanBetweenPictures:
    """A checkpoint folder, whose networks are read when they are needed; safetensors only."""
    return WanBetweenPictures(**seeing_parts(folder, precision))


class WanBetweenPictures(WanFromPictures):
    """A loaded checkpoint; see `families.base.FamilyModel` for the contract of each method."""

    takes: ClassVar = (FIRST, LAST)
