"""A model's whole job at a size, as the benches of the large models ask for it."""

from __future__ import annotations

from i2v.families import SPECS
from i2v.request import GenerationRequest, Task


def whole_job(family: str, task: Task, width: int, height: int, frames: int) -> GenerationRequest:
    """With the model's own steps and guidance."""
    given = SPECS[family].defaults
    return GenerationRequest(
        model=family, task=task, prompt="a rose in the wind", width=width, height=height, num_frames=frames,
        fps=given.fps, num_inference_steps=given.num_inference_steps, guidance_scale=given.guidance_scale, seed=7,
    )  # fmt: skip
