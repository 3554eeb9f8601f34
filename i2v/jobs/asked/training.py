"""A training as a job: from what a person typed to what its folder holds, and what the list shows of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from i2v.hardware.probe import Probe
from i2v.messages import UserError
from i2v.plan import Plan
from i2v.planning.machine import BFLOAT16_CAPABILITY
from i2v.request import GenerationRequest
from i2v.settings.settings import Settings
from i2v.training.asked import WantedTraining, resolve
from i2v.training.request import TrainingPlan, TrainingRequest


@dataclass(frozen=True)
class AskedTraining:
    """A complete training: what is wanted, and of its plan what does not depend on the memory that is free."""

    wanted: WantedTraining
    plan: TrainingPlan

    def to_json(self) -> dict[str, Any]:
        """What the job's folder holds of it, and the worker takes."""
        return {
            "request": self.wanted.request.to_json(),
            "plan": self.plan.to_json(),
            "recompute": self.wanted.recompute,
        }


def asked_training(values: Mapping[str, Any], settings: Settings, probe: Probe) -> AskedTraining:
    """`values`, as typed, completed: `training.asked.KEYS`, and "precision". Raises UserError."""
    rest = dict(values)
    precision = rest.pop("precision", None)
    wanted = resolve(rest, settings)
    return AskedTraining(wanted, base_plan(wanted, probe, settings, precision))


def base_plan(wanted: WantedTraining, reading: Probe, settings: Settings, precision: str | None) -> TrainingPlan:
    """Where and in which precision it will run; the rest is left to dry runs. Raises UserError."""
    gpu = None if settings.gpu == "cpu" else reading.gpu
    device = "cpu" if gpu is None else "simulated" if gpu.simulated else "cuda"
    chosen = precision or ("float32" if device != "cuda" else wanted.spec.half)
    if precision is None and device == "cuda" and "bfloat16" in wanted.spec.precisions:
        known = gpu.compute_capability if gpu is not None else None
        chosen = "bfloat16" if known is None or known >= BFLOAT16_CAPABILITY else wanted.spec.half
    if chosen not in wanted.spec.precisions:
        raise UserError("training.precision", model=wanted.spec.title, precision=chosen,
                        known=", ".join(wanted.spec.precisions))  # fmt: skip
    cap = reading.gpu.total_bytes if device == "simulated" and reading.gpu is not None else None
    return TrainingPlan(device=device, precision=chosen, optimizer=wanted.optimizer or "adamw", memory_cap_bytes=cap)


def shown_as(request: TrainingRequest, plan: TrainingPlan) -> tuple[GenerationRequest, Plan]:
    """A training as the list of jobs shows it: its steps are those of a run, its name stands for the sentence."""
    shown = GenerationRequest(
        model=request.model,
        prompt=request.name,
        width=request.width,
        height=request.height,
        num_frames=request.num_frames,
        fps=request.fps,
        num_inference_steps=request.steps,
        guidance_scale=1.0,
        seed=request.seed,
        task="t2v",
    )
    return shown, Plan(device=plan.device, precision=plan.precision, memory_cap_bytes=plan.memory_cap_bytes)
