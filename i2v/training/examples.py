"""What the network is given of every clip, made once: text, picture and latents, kept on disk until the LoRA is there.

The encoders are on the card one after the other, each for all clips, and have left it when training begins.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import nn

from i2v.families.base import Conditioning, FamilyModel, Inputs
from i2v.families.spec import FamilySpec
from i2v.families.trainable import Example, Trainer
from i2v.memory.card import Card
from i2v.plan import Plan
from i2v.request import GenerationRequest
from i2v.training.clips import TrainingClip, frames_of
from i2v.training.request import TrainingRequest
from i2v.whole_file import whole_file

FOLDER = "cache"
KEPT_IN_MEMORY = 512
"""Examples of most families are some hundred KiB; of a long clip in high resolution some ten MiB."""

LAYOUT = "1"
"""Changes where an example is made in another way, so that what was kept is made anew."""


class Examples:
    """The examples of a training's clips, by number; read from disk when they are needed."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = tuple(files)
        self._read = lru_cache(KEPT_IN_MEMORY)(load_file)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, number: int) -> Example:
        read = self._read(self._files[number])
        return {name: read[name] for name in sorted(read)}


def make_examples(
    clips: Sequence[TrainingClip],
    request: TrainingRequest,
    spec: FamilySpec,
    model: FamilyModel,
    trainer: Trainer,
    card: Card,
    plan: Plan,
    model_digest: str,
    done: Callable[[int], None],
    stop: Callable[[], bool],
) -> Examples | None:
    """The example of every clip; those that were made before are kept. `done` is told how many there are. None where
    it is stopped. Raises UserError for a clip that cannot be read any more, and OSError."""
    folder = Path(request.work) / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{_key(clip, request, plan, model_digest)}.safetensors" for clip in clips]
    missing = [number for number, file in enumerate(files) if not file.is_file()]
    done(len(clips) - len(missing))
    asked = {number: request_of(clips[number], request, spec) for number in missing}
    made: dict[int, Conditioning] = {number: {} for number in missing}
    with card.running():
        for stage in range(_stages(model, asked, plan)):
            for number in missing:
                if stop():
                    return None
                _run_stage(stage, model, card, asked[number], clips[number], plan, made[number])
            _evict(card, model)
        for count, number in enumerate(missing, start=len(clips) - len(missing) + 1):
            if stop():
                return None
            frames = frames_of(clips[number], request.fps)
            _place(card, model, trainer.measured_with)
            on_card = {name: card.to_card(tensor) for name, tensor in made.pop(number).items()}
            example = trainer.measured(card, frames, asked[number], on_card)
            kept = {name: card.to_host(tensor).contiguous() for name, tensor in example.items()}
            del on_card, example
            with card.on_host(), whole_file(files[number], durable=False) as part:
                save_file(kept, part)
            done(count)
        _evict(card, model)
    return Examples(files)


def drop_examples(work: Path) -> None:
    """Give their place on the disk back."""
    shutil.rmtree(work / FOLDER, ignore_errors=True)


def request_of(clip: TrainingClip, request: TrainingRequest, spec: FamilySpec) -> GenerationRequest:
    """What a clip would have been asked for with, so that the family's own stages encode it."""
    return GenerationRequest(
        model=request.model, prompt=clip.caption, width=clip.width, height=clip.height, num_frames=clip.num_frames,
        fps=request.fps, num_inference_steps=spec.defaults.num_inference_steps, guidance_scale=1.0, seed=request.seed,
        task=spec.usual_task,
    )  # fmt: skip


def _stages(model: FamilyModel, asked: Mapping[int, GenerationRequest], plan: Plan) -> int:
    first = next(iter(asked.values()), None)
    return 0 if first is None else len(model.encode_stages(first, Inputs(), plan))


def _run_stage(
    number: int,
    model: FamilyModel,
    card: Card,
    request: GenerationRequest,
    clip: TrainingClip,
    plan: Plan,
    made: Conditioning,
) -> None:
    with card.on_host():
        first = frames_of(clip, request.fps)[0]
        stage = model.encode_stages(request, Inputs({0: first}), plan)[number]
    _place(card, model, stage.components)
    found: Conditioning = {}
    stage.run(card, found)
    made |= {name: card.to_host(tensor) for name, tensor in found.items()}


def _place(card: Card, model: FamilyModel, components: Collection[str]) -> None:
    for name in components:
        with card.on_host():  # reading the files of a component is no work of the card
            module = model.modules[name]
        card.place(module)


def _evict(card: Card, model: FamilyModel) -> None:
    for name in model.modules.loaded:
        _evict_one(card, model.modules[name])
    card.release_cache()


def _evict_one(card: Card, module: nn.Module) -> None:
    if module in card.placed:
        card.evict(module)


def _key(clip: TrainingClip, request: TrainingRequest, plan: Plan, model_digest: str) -> str:
    """All that an example depends on."""
    of = {
        "layout": LAYOUT, "model": model_digest, "precision": plan.precision, "clip": clip.digest,
        "caption": clip.caption, "bucket": clip.bucket, "fps": request.fps, "seed": request.seed,
    }  # fmt: skip
    return hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()[:32]
