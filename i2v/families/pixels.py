"""Between pictures and tensors."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def to_tensor(picture: Image.Image) -> Tensor:
    """An RGB picture as (1, 3, H, W) float32 in 0..1."""
    return torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255).permute(2, 0, 1).unsqueeze(0)


def to_bytes(picture: Tensor) -> Tensor:
    """(3, H, W) in 0..1, clamped, as (H, W, 3) uint8, rounded as diffusers does."""
    return picture.float().clamp(0, 1).mul_(255).round_().to(torch.uint8).permute(1, 2, 0).contiguous()
