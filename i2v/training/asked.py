"""From what a person typed to a complete training request. No torch here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from i2v.families import SPECS
from i2v.families.spec import FamilySpec
from i2v.messages import UserError
from i2v.models.adapters import FOLDER as LORAS
from i2v.models.catalogue import find_model
from i2v.models.entry import ModelEntry
from i2v.models.verify import SAFETENSORS
from i2v.request import AUTO
from i2v.settings.settings import Settings
from i2v.settings.values import Choice, Folder, Number, Text, Whole
from i2v.training.request import OPTIMIZERS, RECOMPUTES, TrainingRequest

KEYS = (
    "model", "clips", "name", "width", "height", "frames", "fps", "seed", "rank", "steps", "batch", "rate", "trigger",
    "dropout", "consistency", "recompute", "optimizer", "save_seconds", "validate", "prompt", "image",
)  # fmt: skip
"""The names of what may be typed."""

WORK = "training"
MOST_RANK, MOST_STEPS, MOST_BATCH = 256, 1_000_000, 256
_NAME = re.compile(r"[^\W_][\w .()+-]*")
_MOST_SEED = 2**31 - 1
_FRAMES = 33
"""As many frames of each clip as are trained on where nothing else is said: a model's own length takes much memory."""


@dataclass(frozen=True)
class WantedTraining:
    """A request, its model, and what of the plan a person has decided: None where the planner is to."""

    request: TrainingRequest
    entry: ModelEntry
    recompute: str | None
    optimizer: str | None

    @property
    def spec(self) -> FamilySpec:
        return SPECS[self.entry.family]


def resolve(values: Mapping[str, Any], settings: Settings) -> WantedTraining:
    """The complete request for `values`, with every default filled in. Raises UserError naming key, value and what is
    allowed, for anything that cannot be."""
    given = {key: value for key, value in values.items() if value not in (None, "", AUTO)}
    if "clips" not in given:
        raise UserError("training.clips_needed")
    entry = find_model(Text().parse(given.get("model", settings.model), "model"), settings)
    spec = check_trainable(entry.family)
    if not entry.present or entry.folder is None:
        raise UserError("training.model_missing", model=entry.title)
    clips = Folder().parse(given["clips"], "clips").absolute()
    name = _name(given.get("name", clips.name))
    usual = size_defaults(spec)
    width, height = (
        spec.nearest_size(Whole(spec.min_size, spec.max_size, auto=True).parse(given.get(side, usual[side]), side))
        for side in ("width", "height")
    )
    frames = Whole(2, spec.max_frames, auto=True).parse(given.get("frames", usual["frames"]), "frames")
    image = given.get("image")
    request = TrainingRequest(
        model=entry.name,
        family=entry.family,
        model_folder=str(entry.folder.absolute()),
        clips=str(clips),
        work=str((settings.outputs_dir / WORK / name).absolute()),
        file=str(lora_file(settings, name).absolute()),
        width=width,
        height=height,
        num_frames=spec.nearest_frames(frames),
        fps=Whole(1, 240, auto=True).parse(given.get("fps", usual["fps"]), "fps"),
        seed=Whole(0, _MOST_SEED, auto=True).parse(given.get("seed", 0), "seed"),
        rank=Whole(1, MOST_RANK, auto=True).parse(given.get("rank", 16), "rank"),
        steps=Whole(1, MOST_STEPS, auto=True).parse(given.get("steps", 1000), "steps"),
        batch=Whole(1, MOST_BATCH, auto=True).parse(given.get("batch", 4), "batch"),
        learning_rate=Number(0, 1, auto=True).parse(given.get("rate", 1e-4), "rate"),
        trigger=Text().parse(given["trigger"], "trigger") if "trigger" in given else "",
        dropout=Number(0, 1, auto=True).parse(given.get("dropout", 0.1), "dropout"),
        consistency=Number(0, 100, auto=True).parse(given.get("consistency", 0.0), "consistency"),
        save_seconds=Number(0, 86400, auto=True).parse(given.get("save_seconds", 60.0), "save_seconds"),
        validate_steps=Whole(0, MOST_STEPS, auto=True).parse(given.get("validate", 0), "validate"),
        validation_prompt=str(given.get("prompt", "")),
        validation_image=None if image is None else str(Path(image).absolute()),
    )
    recompute = Choice(RECOMPUTES, auto=True).parse(given["recompute"], "recompute") if "recompute" in given else None
    optimizer = Choice(OPTIMIZERS, auto=True).parse(given["optimizer"], "optimizer") if "optimizer" in given else None
    return WantedTraining(request, entry, recompute, optimizer)


def size_defaults(spec: FamilySpec) -> dict[str, int]:
    """Width, height, frames and frames per second where a person says none."""
    return {
        "width": spec.nearest_size(spec.defaults.width),
        "height": spec.nearest_size(spec.defaults.height),
        "frames": spec.nearest_frames(min(_FRAMES, spec.max_frames)),
        "fps": spec.defaults.fps,
    }


def lora_file(settings: Settings, name: str) -> Path:
    """Where the LoRA called `name` lies."""
    return settings.models_dir / LORAS / f"{name}{SAFETENSORS}"


def check_trainable(family: str) -> FamilySpec:
    """The spec of a family that can be trained. Raises UserError for one that cannot."""
    spec = SPECS[family]
    if find_spec(f"i2v.families.{family}.training") is None:
        raise UserError("training.not_trainable", model=spec.title)
    return spec


def _name(typed: str) -> str:
    """The name of a LoRA as a file can have it. Raises UserError."""
    name = str(typed).strip()
    if not _NAME.fullmatch(name) or len(name) > 100:
        raise UserError("training.bad_name", name=name)
    return name
