"""Wan 2.2 from pictures with two experts: number for number diffusers' `WanImageToVideoPipeline` with a
`boundary_ratio`. Nothing but the autoencoder sees the pictures, and a last one may be left out."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch

from i2v.families.wan.model import parts_of
from i2v.families.wan22.model import EXPERTS, WanOfExperts, boundary_of, networks_of
from i2v.families.wan_i2v.model import WanFromPictures
from i2v.families.wan_i2v.pictures import FIRST, LAST


def load(folder: Path, precision: torch.dtype) -> WanOfExpertsFromPictures:
    """A checkpoint folder, whose networks are read when they are needed; safetensors only."""
    return WanOfExpertsFromPictures(boundary=boundary_of(folder), **parts_of(folder, precision, networks_of(EXPERTS)))


class WanOfExpertsFromPictures(WanOfExperts, WanFromPictures):
    """A loaded checkpoint; see `families.base.FamilyModel` for the contract of each method."""

    blocks: ClassVar = WanOfExperts.blocks
    takes: ClassVar = (FIRST, LAST)
    low_share: ClassVar = 1.0
