"""What a person asks of training, how it will run, and what it tells while it does. No torch here: page, jobs and
command line use it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

from i2v.messages import Message
from i2v.plan import Precision

Recompute = Literal["none", "some", "all"]
"""Of a network's blocks, which are computed again in the backward pass so that they hold nothing until then."""

RECOMPUTES: tuple[Recompute, ...] = ("none", "some", "all")

Optimizer = Literal["adamw", "adamw8bit"]
OPTIMIZERS: tuple[Optimizer, ...] = ("adamw", "adamw8bit")

PLAN = "plan.json"
FORETOLD = "foretold_peak_bytes"
VALIDATION = "validation"
"""In a work folder: the plan that a training runs under, in it what its tensors are foretold to hold on a card, and the
folder of the clips that are made while it trains."""


@dataclass(frozen=True)
class TrainingPlan:
    """How one training runs; beside `precision` and `optimizer` nothing here changes what is learned.

    `device`: as `plan.Plan` has it. `micro_batch`: examples that go through the network at once; a step adds up as many
    of these as its batch needs. `recomputed`: the numbers of the blocks that are computed again in the backward pass.
    `memory_cap_bytes`: what it may hold on the card, None for all that is free."""

    device: Literal["cpu", "cuda", "simulated"] = "cpu"
    precision: Precision = "float32"
    micro_batch: int = 1
    recomputed: tuple[int, ...] = ()
    optimizer: Optimizer = "adamw"
    memory_cap_bytes: int | None = None

    def to_json(self) -> dict[str, Any]:
        """This plan as plain JSON values; `from_json` reads it back unchanged."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TrainingPlan:
        """Read back what `to_json` wrote; keys of newer versions are ignored."""
        kept = _known(cls, values)
        return cls(**{**kept, "recomputed": tuple(kept.get("recomputed", ()))})


@dataclass(frozen=True)
class TrainingRequest:
    """A complete request. `model_folder`: the checkpoint of `family` in diffusers' layout, called `model`. `clips`: the
    folder of films. `work`: the folder where progress, cache and table of losses are kept. `file`: the LoRA that is
    made; it is there when all `steps` are done.

    `batch`: examples of one step. `width`, `height`: about as many pixels as these have each clip gets in its own
    proportions. `trigger`: words that stand before every caption, so that a prompt can call what was learned.
    `dropout`: the share of examples whose sentence is left out. `consistency`: how much the change from frame to frame
    counts beside. `save_seconds`: at most so much is lost when training is ended by force. `validate_steps`: a clip of
    `validation_prompt` after every so many steps, 0 for none; from the picture at `validation_image` where the model
    needs one, None for the first clip's first frame."""

    model: str
    family: str
    model_folder: str
    clips: str
    work: str
    file: str
    width: int
    height: int
    num_frames: int
    fps: int
    seed: int
    rank: int = 16
    steps: int = 1000
    batch: int = 4
    learning_rate: float = 1e-4
    warmup_steps: int = 20
    trigger: str = ""
    dropout: float = 0.1
    consistency: float = 0.0
    save_seconds: float = 60.0
    validate_steps: int = 0
    validation_prompt: str = ""
    validation_image: str | None = None

    @property
    def name(self) -> str:
        """What the LoRA is called."""
        return Path(self.file).stem

    def to_json(self) -> dict[str, Any]:
        """This request as plain JSON values; `from_json` reads it back unchanged."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TrainingRequest:
        """Read back what `to_json` wrote; keys of newer versions are ignored."""
        return cls(**_known(cls, values))


@dataclass(frozen=True)
class ClipsPrepared:
    """So many of `total` clips are ready to be trained on."""

    type: ClassVar[str] = "prepared"
    clips: int
    total: int


@dataclass(frozen=True)
class Foretold:
    """How it will run, and what a step is foretold to hold on the card and to take. `plan`: a TrainingPlan's JSON."""

    type: ClassVar[str] = "foretold"
    plan: Mapping[str, Any]
    recompute: Recompute
    tensor_bytes: int
    peak_bytes: int
    step_seconds: float


@dataclass(frozen=True)
class Begun:
    """Training begins after `step` of `steps` steps, on so many `clips`. `trained_numbers`: that the LoRA has."""

    type: ClassVar[str] = "begun"
    step: int
    steps: int
    clips: int
    trained_numbers: int


@dataclass(frozen=True)
class Stepped:
    """One step is done. `peak_bytes`: the most that the card held in it."""

    type: ClassVar[str] = "stepped"
    step: int
    steps: int
    loss: float
    learning_rate: float
    seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class Validated:
    """A clip made with what was learned up to `step`."""

    type: ClassVar[str] = "validated"
    step: int
    file: str


@dataclass(frozen=True)
class Told:
    """Something a person should know."""

    type: ClassVar[str] = "told"
    message: Message


@dataclass(frozen=True)
class LaidDown:
    """Training was stopped after `step`; the same request goes on from there."""

    type: ClassVar[str] = "laid_down"
    step: int
    steps: int


@dataclass(frozen=True)
class Trained:
    """All steps are done, and the LoRA lies in `file`."""

    type: ClassVar[str] = "trained"
    file: str
    steps: int
    size_bytes: int


@dataclass(frozen=True)
class NotTrained:
    """Training ended for this reason."""

    type: ClassVar[str] = "not_trained"
    message: Message


TrainingEvent = Foretold | ClipsPrepared | Begun | Stepped | Validated | Told | LaidDown | Trained | NotTrained
_EVENTS: Mapping[str, type] = {
    one.type: one for one in (Foretold, ClipsPrepared, Begun, Stepped, Validated, Told, LaidDown, Trained, NotTrained)
}


def event_to_json(event: TrainingEvent) -> dict[str, Any]:
    """`event` as plain JSON values."""
    values = {one.name: getattr(event, one.name) for one in fields(event)}
    if "message" in values:
        values["message"] = values["message"].to_json()
    return {"type": event.type, **values}


def event_from_json(values: Mapping[str, Any]) -> TrainingEvent:
    """Read back what `event_to_json` wrote. Raises KeyError for another kind of event."""
    cls = _EVENTS[values["type"]]
    kept = _known(cls, values)
    if "message" in kept:
        kept["message"] = Message.from_json(kept["message"])
    return cls(**kept)


def _known(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `values` that the dataclass `cls` has a field for."""
    names = {one.name for one in fields(cls)}
    return {name: value for name, value in values.items() if name in names}
