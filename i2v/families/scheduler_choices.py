"""The schedulers and noise schedules that a person may choose by name, each as a class of diffusers and what of its
configuration is not the checkpoint's own. Which of them a family offers stands in its spec. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class SchedulerChoice:
    """`title`: as its authors write it. `class_name`: in diffusers. `keeps`: how many tensors of the latents' size it
    holds while the network computes. `settings`: of its configuration, in place of the checkpoint's own or of its
    defaults."""

    name: str
    title: str
    class_name: str
    keeps: int
    settings: Mapping[str, Any] = field(default_factory=dict)


# A flow model predicts the difference between noise and picture; its noise levels are shifted (`flow_shift`).
_FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}

SCHEDULERS: Mapping[str, SchedulerChoice] = {
    one.name: one
    for one in (
        # Song et al., 2021, without noise of its own (eta = 0).
        SchedulerChoice("ddim", "DDIM", "DDIMScheduler", 0),
        # Lu et al., 2022: of second order, from the last two predictions.
        SchedulerChoice("dpmpp_2m", "DPM++ 2M", "DPMSolverMultistepScheduler", 2, {"algorithm_type": "dpmsolver++"}),
        SchedulerChoice(
            "dpmpp_2m_sde", "DPM++ 2M SDE", "DPMSolverMultistepScheduler", 2, {"algorithm_type": "sde-dpmsolver++"}
        ),
        # Zhao et al., 2023: of second order, each step corrected once the next prediction is there.
        SchedulerChoice("unipc", "UniPC", "UniPCMultistepScheduler", 3),
        # Karras et al., 2022, without noise of its own.
        SchedulerChoice("euler", "Euler", "EulerDiscreteScheduler", 1),
        # DDIM and a solver of second order with noise of its own in each step, for CogVideoX's schedule.
        SchedulerChoice("cogvideox_ddim", "CogVideoX DDIM", "CogVideoXDDIMScheduler", 0),
        SchedulerChoice("cogvideox_dpm", "CogVideoX DPM", "CogVideoXDPMScheduler", 1),
        SchedulerChoice("flow_euler", "Flow Euler", "FlowMatchEulerDiscreteScheduler", 0),
        SchedulerChoice("flow_dpmpp_2m", "Flow DPM++ 2M", "DPMSolverMultistepScheduler", 2, _FLOW),
        SchedulerChoice("flow_unipc", "Flow UniPC", "UniPCMultistepScheduler", 3, _FLOW),
    )
}

BETAS: Mapping[str, Mapping[str, Any]] = {
    # Nichol and Dhariwal, 2021.
    "cosine": {"beta_schedule": "squaredcos_cap_v2", "rescale_betas_zero_snr": False},
    # Rescaled until the last level is noise alone (Lin et al., 2023).
    "cosine_zero_snr": {"beta_schedule": "squaredcos_cap_v2", "rescale_betas_zero_snr": True},
}
"""How noise grows over the levels that a network was trained on."""
