"""Progress on disk: one file that is replaced whole, from which training goes on exactly where it was.

What is random follows from the seed and the step (see `draws`), so that neither a random state nor a place in the data
has to be kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from i2v.messages import UserError
from i2v.training.request import TrainingPlan, TrainingRequest
from i2v.whole_file import whole_file

FILE = "progress.safetensors"
_FREE = ("clips", "file", "work", "save_seconds", "model", "model_folder", "validate_steps", "validation_prompt",
         "validation_image")  # fmt: skip
"""What of a request may differ between two parts of one training."""


@dataclass(frozen=True)
class Saved:
    """What was read: after how many steps, the LoRA's matrices by name, and the optimiser's memory of each."""

    step: int
    matrices: Mapping[str, Tensor]
    memory: Mapping[str, Mapping[str, Any]]
    scale: Mapping[str, Any]


def key_of(request: TrainingRequest, plan: TrainingPlan, clips: Sequence[str], model_digest: str) -> str:
    """The digest of all that decides what is learned. Two trainings that differ in it cannot go on from each other."""
    asked = {name: value for name, value in request.to_json().items() if name not in _FREE}
    ran = {"precision": plan.precision, "optimizer": plan.optimizer, "micro_batch": plan.micro_batch}
    of = json.dumps([asked, ran, list(clips), model_digest], sort_keys=True)
    return hashlib.sha256(of.encode()).hexdigest()[:32]


def save(
    work: Path,
    step: int,
    key: str,
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    to_host: Callable[[Tensor], Tensor],
) -> None:
    """Keep everything that is needed to go on after `step` steps. Raises OSError."""
    tensors = {f"matrix/{name}": to_host(parameter.detach()) for name, parameter in parameters.items()}
    numbers: dict[str, Any] = {}
    for name, parameter in parameters.items():
        for what, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                tensors[f"memory/{what}/{name}"] = to_host(value.detach())
            else:
                numbers[f"{what}/{name}"] = value
    about = {"step": str(step), "key": key, "numbers": json.dumps(numbers), "scale": json.dumps(scaler.state_dict())}
    with whole_file(work / FILE) as part:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part, about)


def read(work: Path, key: str) -> Saved | None:
    """What was saved last; None where nothing was. Raises UserError where it is of another training, or is damaged."""
    file = work / FILE
    if not file.is_file():
        return None
    try:
        with safe_open(file, framework="pt") as opened:
            about = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise UserError("training.progress_broken", file=str(file)) from error
    if about.get("key") != key:
        raise UserError("training.other_training", folder=str(work))
    memory: dict[str, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        kind, _, rest = name.partition("/")
        if kind == "memory":
            what, _, of = rest.partition("/")
            memory.setdefault(of, {})[what] = tensor
    for name, value in json.loads(about["numbers"]).items():
        what, _, of = name.partition("/")
        memory.setdefault(of, {})[what] = value
    matrices = {name.removeprefix("matrix/"): one for name, one in tensors.items() if name.startswith("matrix/")}
    return Saved(int(about["step"]), matrices, memory, json.loads(about["scale"]))


def restore(
    saved: Saved,
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    to_card: Callable[[Tensor], Tensor],
) -> None:
    """Bring LoRA, optimiser and scaler, which are on the card, to where they were."""
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(saved.matrices[name])
            if name in saved.memory:
                optimizer.state[parameter] = {
                    what: to_card(value) if isinstance(value, Tensor) else value
                    for what, value in saved.memory[name].items()
                }
    scaler.load_state_dict(dict(saved.scale)) if saved.scale else None
