"""HunyuanVideo-1.5 I2V in few steps without its weights: what the dry run follows."""

from __future__ import annotations

from pathlib import Path

from i2v.families.hunyuan_video_15_i2v.skeleton import CONFIGURED, REPEATED, skeleton

__all__ = ("CONFIGS", "CONFIGURED", "REPEATED", "skeleton")

CONFIGS = Path(__file__).with_name("configs")
