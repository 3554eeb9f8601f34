"""diffusers' schedulers for flow models as its pipelines of HunyuanVideo take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from diffusers import DPMSolverMultistepScheduler

from tests.going_on import THEIRS


class TakesSigmas(DPMSolverMultistepScheduler):
    """The pipelines always name sigmas, which this scheduler does not take: only their number reaches it."""

    def set_timesteps(self, num_inference_steps: int | None = None, device: Any = None, sigmas: Sequence = ()) -> None:
        super().set_timesteps(len(sigmas), device)


def flow_scheduler(name: str, config: Mapping[str, Any], shift: float) -> Any:
    """The scheduler of this name with this shift."""
    cls, settings = THEIRS[name]
    if cls is DPMSolverMultistepScheduler:
        cls = TakesSigmas
    return cls.from_config(config, **settings, **({"shift": shift} if name == "flow_euler" else {"flow_shift": shift}))
