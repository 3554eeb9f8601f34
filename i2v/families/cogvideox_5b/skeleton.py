"""CogVideoX 5B without its weights: what the dry run follows."""

from __future__ import annotations

from pathlib import Path

from i2v.families.cogvideox.skeleton import CONFIGURED, REPEATED, skeleton

__all__ = ("CONFIGS", "CONFIGURED", "REPEATED", "skeleton")

CONFIGS = Path(__file__).with_name("configs")
