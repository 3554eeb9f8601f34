"""Progress on disk, written whole or not at all: `checkpoint.safetensors` every few seconds of denoising, and
`latents.safetensors` once that is done and before decode begins.

Each carries whose progress it is. One that another request, picture, model or program made is not taken up: going on
from it would give a picture that nobody asked for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from i2v.families import SPECS
from i2v.families.base import Progress
from i2v.families.schedulers import SchedulerState
from i2v.messages import UserError
from i2v.models.parts_digest import model_digest
from i2v.plan import Plan
from i2v.request import GenerationRequest
from i2v.vae_window import OWN
from i2v.whole_file import write_whole

CHECKPOINT = "checkpoint.safetensors"
LATENTS = "latents.safetensors"

_PACKAGE = Path(__file__).resolve().parents[1]
# How a person chose the plan, what becomes of decoded frames, and what stands before the new ones, changes nothing in
# the latents.
_NOT_IN_LATENTS = ("options", "finish", "before")
_SCHEDULER = "scheduler/"
_SHARED_CODE = (
    "adapters",
    "anchors",
    "fused",
    "guidance",
    "long_clips",
    "schedulers",
    "scheduler_choices",
)  # of all families


@dataclass(frozen=True)
class Identity:
    """Whose progress it is, each part as a digest: where one differs, so would the latents. `inputs`: of the contents
    of each file that the video is made from, in the order of the request."""

    request: str
    inputs: tuple[str, ...]
    model: str
    precision: str
    program: str

    def differs_in(self, other: Mapping[str, Any]) -> str | None:
        """The first part that is another in `other`; None where all are the same."""
        own = json.loads(json.dumps(asdict(self)))  # as it was written
        return next((part for part, value in own.items() if other.get(part) != value), None)


def identity_of(request: GenerationRequest, plan: Plan, folder: Path, model_folder: Path, family: str) -> Identity:
    """Who a run in `folder` is. Reads its inputs and parts of the model's files; tens of milliseconds."""
    # Where a file lies changes nothing in the latents.
    adapters = tuple(one.without_place for one in request.adapters)
    plain = replace(request, inputs=tuple(replace(one, path="") for one in request.inputs), adapters=adapters)
    asked = {key: value for key, value in plain.to_json().items() if key not in _NOT_IN_LATENTS}
    attention = "" if plan.attention == "native" else f", {plan.attention} attention"
    # What a video begins with went through the autoencoder.
    window = "" if plan.vae_window == OWN or not request.inputs else f", {plan.vae_window} windows"
    cache = f", step cache {plan.step_cache:g}" if plan.step_cache else ""
    return Identity(
        request=_digest(json.dumps(asked, sort_keys=True).encode()),
        inputs=tuple(_digest_of(folder / one.path) for one in request.inputs),
        model=model_digest(model_folder),
        precision=f"{plan.precision}, {plan.weights} weights{attention}{cache}{window}",
        program=program_digest(family),
    )


def save_checkpoint(folder: Path, progress: Progress, identity: Identity) -> None:
    """Write CHECKPOINT in `folder`. Raises OSError, and then leaves the one before as it was."""
    _write(folder / CHECKPOINT, progress, identity)


def save_latents(folder: Path, progress: Progress, identity: Identity) -> None:
    """Write LATENTS in `folder`; a checkpoint is of no more use then and goes.

    Raises UserError when the disk is full or the folder cannot be written."""
    path = folder / LATENTS
    try:
        _write(path, progress, identity)
    except OSError as error:
        raise UserError("engine.latents_not_saved", path=str(path), reason=error.strerror or str(error)) from error
    (folder / CHECKPOINT).unlink(missing_ok=True)


def load_progress(folder: Path, identity: Identity) -> tuple[Progress | None, str]:
    """How far the run of `folder` had come, from the finished latents or the checkpoint; None where there is neither
    or it is another run's, with the part that differs ("file" for one that cannot be read)."""
    reason = ""
    for name in (LATENTS, CHECKPOINT):
        try:
            progress, whose = read_progress(folder / name)
        except FileNotFoundError:
            continue
        except (OSError, ValueError, LookupError, TypeError, SafetensorError):
            reason = "file"
            continue
        differing = identity.differs_in(whose)
        if differing is None:
            return progress, ""
        reason = differing
    return None, reason


def read_progress(path: Path) -> tuple[Progress, dict[str, Any]]:
    """What was written at `path`, whoever's it is, and the parts of its identity. Raises FileNotFoundError, and
    SafetensorError, ValueError, LookupError or TypeError for a file that is no such thing."""
    if not path.is_file():
        raise FileNotFoundError(path)
    with safe_open(path, framework="pt") as file:
        told = json.loads(file.metadata()["progress"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    kept = {name.removeprefix(_SCHEDULER): one for name, one in tensors.items() if name.startswith(_SCHEDULER)}
    state = SchedulerState(kept, told["scheduler"])
    return Progress(int(told["step"]), tensors["latents"], tensors.get("predicted"), state), told["identity"]


@cache
def program_digest(family: str) -> str:
    """The code that decides what a step computes; how it is placed and cut up is left to change."""
    digest = hashlib.sha256()
    families = _PACKAGE / "families"
    own = [path for name in (family, *SPECS[family].builds_on) for path in sorted(families.glob(f"{name}/*.py"))]
    shared = [families / f"{name}.py" for name in _SHARED_CODE]
    for path in (*own, *shared):
        if path.name not in ("spec.py", "skeleton.py", "training.py"):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _write(path: Path, progress: Progress, identity: Identity) -> None:
    tensors = {"latents": progress.latents}
    if progress.predicted is not None:
        tensors["predicted"] = progress.predicted
    tensors |= {_SCHEDULER + name: tensor for name, tensor in progress.scheduler.tensors.items()}
    told = {"step": progress.step, "scheduler": dict(progress.scheduler.values), "identity": asdict(identity)}
    # Cloned, as two names for one memory are refused.
    data = save({name: one.clone().contiguous() for name, one in tensors.items()}, {"progress": json.dumps(told)})
    write_whole(path, data)


def _digest_of(path: Path) -> str:
    """Of the contents of a file; of one that is missing "", which no other has: whoever needs it will say so."""
    try:
        with path.open("rb") as file:  # a clip may be larger than memory
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except FileNotFoundError:
        return ""


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
