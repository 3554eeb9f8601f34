"""Doing a job again: its values as somebody would type them, and what it had finished carried over."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from i2v.families.spec import FamilySpec
from i2v.family_settings import FAMILY_SETTINGS
from i2v.jobs.asked.prepare import FINISH_KEYS
from i2v.jobs.asked.two_stages import said_of
from i2v.jobs.job.folder import PICTURE, PICTURE_AT
from i2v.jobs.job.stored import Task
from i2v.request import AS_DECODED, Finish, GenerationRequest, PlanOptions
from i2v.video import region
from i2v.whole_file import copy_whole

LATENTS = "latents.safetensors"
CHECKPOINT = "checkpoint.safetensors"
DECODED_BY = ("fps", "decode_frames", "decode_rows", "vae_window", *FINISH_KEYS)
"""What may be another when the same latents are decoded again."""
LONGEST_HEADER = 2**20  # bytes, of a safetensors file of ours


def values_of(request: GenerationRequest) -> dict[str, Any]:
    """The command line's values that make this request, without its pictures and its clip."""
    values = {
        "model": request.model, "task": request.task, "prompt": request.prompt, "negative": request.negative_prompt,
        "width": request.width, "height": request.height, "frames": request.num_frames, "fps": request.fps,
        "steps": request.num_inference_steps, "guidance": request.guidance_scale, "seed": request.seed,
        "fit": request.fit, "region": request.region, "way": request.way,
        "lora": [f"{one.source}:{one.weight!r}" for one in request.adapters] or None,
    }  # fmt: skip
    values["true_guidance"] = request.true_guidance_scale if request.true_guidance_scale > 1 else None
    values |= {"scheduler": request.scheduler, "betas": request.betas}
    values["guidance_rescale"] = request.guidance_rescale or None
    values["guidance_curve"] = None if request.guidance_curve == "constant" else request.guidance_curve
    values["two_stages"] = said_of(request)
    values |= {name: getattr(request, name) for name in FAMILY_SETTINGS}
    values["strength"] = next((one.strength for one in request.inputs if one.kind == "video"), None)
    values |= finish_values(request.finish)
    values = {key: value for key, value in values.items() if value is not None}
    return values | {key: value for key, value in asdict(request.options).items() if value is not None}


def finish_values(finish: Finish) -> dict[str, Any]:
    """The command line's values that ask for `finish`: those that differ from what is asked for without any."""
    return {key: value for key, value in asdict(finish).items() if value != getattr(AS_DECODED, key)}


def same_latents(one: GenerationRequest, other: GenerationRequest) -> bool:
    """Whether two requests ask for the same latents: they may be run otherwise."""

    def plain(request: GenerationRequest) -> GenerationRequest:
        inputs = tuple(replace(one, path="") for one in request.inputs)
        adapters = tuple(one.without_place for one in request.adapters)
        return replace(request, inputs=inputs, adapters=adapters, finish=AS_DECODED, options=PlanOptions())

    return plain(one) == plain(other)


def shows_alike(one: GenerationRequest, other: GenerationRequest) -> bool:
    """Whether their videos have the same size and rate, and so can stand one after the other."""
    return (one.video_size, one.video_fps) == (other.video_size, other.video_fps)


def longer_by(request: GenerationRequest, seconds: float, spec: FamilySpec) -> dict[str, Any]:
    """The values of a request that goes on from the last frame of the video that `request` made, for so many seconds
    more, with a seed of its own. Its first frame is that last one, and is not shown twice."""
    frames = spec.nearest_frames(seconds * request.fps + 1)
    begins = {"task": "i2v", "region": region.kept_in_frame(request), "strength": None}
    return {**values_of(request), **begins, "frames": frames, "seed": None}


def to_decode(folder: Path) -> Path | None:
    """What of a job can be decoded: its latents, else the checkpoint of an unfinished run; None where neither is."""
    return next((path for path in (folder / LATENTS, folder / CHECKPOINT) if path.is_file()), None)


def kept_step(folder: Path) -> int | None:
    """After which step an unfinished run would go on, as its checkpoint says; None without one that can be read."""
    try:
        with (folder / CHECKPOINT).open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(size, LONGEST_HEADER)))
        return int(json.loads(header["__metadata__"]["progress"])["step"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def carry_over(source: Path, target: Path, task: Task) -> None:
    """What the job in `source` had finished, into the folder `target` too, taking no more room where the disk can
    share a file. What cannot be carried has to be made again."""
    between = (path.name for path in source.glob(PICTURE_AT.format("*")))  # the last one too
    for name in (PICTURE, *between):
        if not (source / name).is_file():
            continue
        # Copied byte by byte: a checkpoint is valid only with the very file it was made from, and saving the picture
        # anew may give other bytes.
        with suppress(OSError):
            copy_whole(source / name, target / name)
    for name in (LATENTS, CHECKPOINT):
        if not (source / name).is_file():
            continue
        try:
            os.link(source / name, target / name)
        except OSError:
            with suppress(OSError):
                copy_whole(source / name, target / name)
        if task == "decode":
            return  # one is enough


def changed(values: Mapping[str, Any], changes: Mapping[str, Any] | None) -> dict[str, Any]:
    """`values` with `changes`; a change to None or "auto" leaves that choice to the app."""
    return {**values, **(changes or {})}
