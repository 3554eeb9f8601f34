"""The parts of denoising, by their names: one by one they have networks of their own, and steps."""

from __future__ import annotations

UPSAMPLE = "denoise.upsample"
"""A part in which no noise is taken away: latents are made larger for the part that follows."""


def denoises(part: str) -> bool:
    """Whether the networks of this part take noise away."""
    return part != UPSAMPLE
