"""Runs of a model with a chosen scheduler, laid down after every step and gone on with from the file; and what each
choice is in diffusers, written out anew."""

from __future__ import annotations

from pathlib import Path

import diffusers
import torch
from torch import Tensor

from i2v.engine.checkpoint import CHECKPOINT, Identity, read_progress, save_checkpoint
from i2v.families.base import Conditioning, FamilyModel, Inputs, Progress
from i2v.families.phases import Phases
from i2v.memory.card import HostCard
from i2v.plan import Plan
from i2v.request import GenerationRequest

FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
THEIRS = {
    "ddim": (diffusers.DDIMScheduler, {}),
    "dpmpp_2m": (diffusers.DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++"}),
    "dpmpp_2m_sde": (diffusers.DPMSolverMultistepScheduler, {"algorithm_type": "sde-dpmsolver++"}),
    "unipc": (diffusers.UniPCMultistepScheduler, {}),
    "euler": (diffusers.EulerDiscreteScheduler, {}),
    "flow_euler": (diffusers.FlowMatchEulerDiscreteScheduler, {}),
    "flow_dpmpp_2m": (diffusers.DPMSolverMultistepScheduler, FLOW),
    "flow_unipc": (diffusers.UniPCMultistepScheduler, FLOW),
    "cogvideox_ddim": (diffusers.CogVideoXDDIMScheduler, {}),
    "cogvideox_dpm": (diffusers.CogVideoXDPMScheduler, {}),
}
ANYBODY = Identity("", (), "", "", "")


def encoded(model: FamilyModel, request: GenerationRequest, inputs: Inputs) -> Conditioning:
    """All that encode makes."""
    conditioning: Conditioning = {}
    with torch.no_grad():
        for _, made in Phases(model, HostCard(), request, Plan()).encode(inputs):
            conditioning |= made
    return conditioning


def stepped(
    model: FamilyModel, request: GenerationRequest, conditioning: Conditioning, begun: Progress | None = None
) -> list[Progress]:
    """What is kept after each step that is left."""
    phases = Phases(model, HostCard(), request, Plan(cfg="split"))
    done = begun.step if begun else 0
    with torch.no_grad():
        steps = enumerate(phases.denoise(conditioning, begun), start=done + 1)
        return [phases.progress(step, latents.clone()) for step, latents in steps]


def gone_on_with(model: FamilyModel, request: GenerationRequest, conditioning: Conditioning, folder: Path) -> Tensor:
    """The latents of a straight run, once those of a run that is laid down after any of its steps are the same."""
    straight = stepped(model, request, conditioning)
    for progress in straight[:-1]:
        save_checkpoint(folder, progress, ANYBODY)
        again = stepped(model, request, conditioning, read_progress(folder / CHECKPOINT)[0])
        for one, other in zip(again, straight[progress.step :], strict=True):
            assert torch.equal(one.latents, other.latents), f"after step {progress.step}, in step {one.step}"
            assert torch.equal(one.predicted, other.predicted)
    return straight[-1].latents
