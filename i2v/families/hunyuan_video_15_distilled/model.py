"""HunyuanVideo-1.5 I2V in few steps: the other's code, whose transformer is told the next step's noise as well."""

from __future__ import annotations

from pathlib import Path

import torch

from i2v.families.hunyuan_video_15_i2v import model as in_many_steps


def load(folder: Path, precision: torch.dtype) -> in_many_steps.HunyuanVideo15FromPicture:
    """A checkpoint folder, whose networks are read when they are needed; safetensors only."""
    return in_many_steps.load(folder, precision)
