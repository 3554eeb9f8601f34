"""Clips made while a LoRA is trained, with what it has learned so far, by the model's own phases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from PIL import Image

from i2v.families.base import FamilyModel, Inputs
from i2v.families.phases import Phases
from i2v.families.spec import FamilySpec
from i2v.memory.card import Card
from i2v.plan import Placement, Plan
from i2v.request import GenerationRequest
from i2v.training.clips import TrainingClip, frames_of
from i2v.training.request import VALIDATION, TrainingRequest
from i2v.video.picture import fit_picture, load_picture
from i2v.video.writer import VideoWriter

MOST_STEPS = 25  # of denoising: enough to see a motion


def validation_clip(
    step: int,
    clip: TrainingClip,
    request: TrainingRequest,
    spec: FamilySpec,
    model: FamilyModel,
    denoiser: str,
    card: Card,
    plan: Plan,
    stop: Callable[[], bool],
) -> Path | None:
    """A clip in the size of `clip`, made after `step`; `denoiser` is on the card and stays there. None where it is
    stopped. Raises UserError where a picture or the film cannot be read or written, and torch's out-of-memory error."""
    with card.on_host():
        first = _first(clip, request)
        model.modules.load(model.modules)
    asked = asked_of(clip, request, spec)
    phases = Phases(model, card, asked, replace(plan, places=(*plan.places, Placement(denoiser, "resident"))))
    file = Path(request.work) / VALIDATION / f"step_{step:06d}.mp4"
    file.parent.mkdir(parents=True, exist_ok=True)
    made = {}
    for _, found in phases.encode(Inputs({0: first})):
        made |= found
    last = None
    for latents in phases.denoise(made):
        last = card.to_host(latents)
        if stop():
            return None
    assert last is not None
    about = {"prompt": asked.prompt, "seed": asked.seed}
    with VideoWriter(file, width=asked.width, height=asked.height, fps=asked.fps, metadata=about) as film:
        for frame in phases.decode(made, last):
            film.write(frame.numpy())
    return file


def asked_of(clip: TrainingClip, request: TrainingRequest, spec: FamilySpec) -> GenerationRequest:
    """What a validation clip is asked for with."""
    usual = spec.defaults
    return GenerationRequest(
        model=request.model,
        prompt=request.validation_prompt or clip.caption,
        negative_prompt=usual.negative_prompt,
        width=clip.width,
        height=clip.height,
        num_frames=clip.num_frames,
        fps=request.fps,
        num_inference_steps=min(usual.num_inference_steps, MOST_STEPS),
        guidance_scale=usual.guidance_scale,
        seed=request.seed,
        task=spec.usual_task,
    )


def _first(clip: TrainingClip, request: TrainingRequest) -> Image.Image:
    if request.validation_image is None:
        return frames_of(clip, request.fps)[0]
    return fit_picture(load_picture(Path(request.validation_image)), clip.width, clip.height, "crop")
