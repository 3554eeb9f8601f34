"""What happens during a run, as frozen dataclasses that survive a pipe: `to_json` writes, `from_json` reads.

The engine emits them, the worker sends them, the service stores and relays them, page and command line render
them. Sizes in bytes, durations in seconds, steps counted from 1.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

from i2v.messages import Message

PHASES = ("load", "encode", "denoise", "decode", "finish")


@dataclass(frozen=True)
class PhaseStarted:
    """A phase begins: one of PHASES but "finish", which goes on inside of "decode". `detail` names the part, such as
    the encode stage, or is empty."""

    type: ClassVar[str] = "phase_started"
    phase: str
    detail: str = ""


@dataclass(frozen=True)
class PhaseFinished:
    type: ClassVar[str] = "phase_finished"
    phase: str
    seconds: float
    detail: str = ""


@dataclass(frozen=True)
class StepFinished:
    """Step `index` of `total` is done. `seconds` is this step's time, `seconds_per_step` a running median;
    `seconds_left` covers the steps that remain. `phase` is "denoise", or "decode" with frames as steps. `sections`: the
    parts of the video that are made one after the other, with as many steps each."""

    type: ClassVar[str] = "step_finished"
    phase: str
    index: int
    total: int
    seconds: float
    seconds_per_step: float
    seconds_left: float
    sections: int = 1

    @property
    def section(self) -> int:
        """The number of the section that it was a step of, from 1."""
        return (self.index - 1) * self.sections // max(1, self.total) + 1


@dataclass(frozen=True)
class WindowFinished:
    """Window `index` of `total` of the denoising step at hand is done: of a clip that is made in several."""

    type: ClassVar[str] = "window_finished"
    index: int
    total: int


@dataclass(frozen=True)
class MemorySampled:
    """Memory after a step. `source` says whose figures they are: "cuda" (torch's allocator and the driver),
    "simulated" (the simulated card) or "process" (no card: this process's resident memory in every field)."""

    type: ClassVar[str] = "memory_sampled"
    phase: str
    step: int
    allocated_bytes: int
    reserved_bytes: int
    device_used_bytes: int
    device_total_bytes: int
    process_rss_bytes: int
    source: Literal["cuda", "simulated", "process"]
    peak_allocated_bytes: int = 0


@dataclass(frozen=True)
class PreviewReady:
    """The predicted picture at this step (not the noise): an animated WebP, `path` relative to the job folder."""

    type: ClassVar[str] = "preview_ready"
    step: int
    path: str


@dataclass(frozen=True)
class Noted:
    """Something to tell the person that does not end the run. `level`: info | warning."""

    type: ClassVar[str] = "noted"
    level: Literal["info", "warning"]
    message: Message


@dataclass(frozen=True)
class StateChanged:
    """The job's state: queued, running, decoding, paused, done, failed, cancelled. The last three are final."""

    type: ClassVar[str] = "state_changed"
    state: str


@dataclass(frozen=True)
class SteadinessMeasured:
    """How steady the finished frames are: the report in the job folder without its single frames, as plain JSON; see
    `i2v.video.steadiness.Steadiness`."""

    type: ClassVar[str] = "steadiness_measured"
    summary: dict[str, Any]


@dataclass(frozen=True)
class Done:
    """The finished video; `path` relative to the job folder. Of a training the name of its LoRA's file."""

    type: ClassVar[str] = "done"
    path: str
    seconds: float
    frames: int


@dataclass(frozen=True)
class Failed:
    """The run ended without a video. `message` is for the person, `detail` (a traceback) for the log file."""

    type: ClassVar[str] = "failed"
    message: Message
    detail: str = ""


@dataclass(frozen=True)
class Cancelled:
    type: ClassVar[str] = "cancelled"
    step: int


@dataclass(frozen=True)
class Resumed:
    """The run goes on from what an earlier one had kept: `step` denoising steps need not be made again."""

    type: ClassVar[str] = "resumed"
    step: int


@dataclass(frozen=True)
class Healed:
    """Memory ran out in `phase` after `step` denoising steps, and the run goes on under `plan` (the `to_json` of a
    Plan). `message` says so to the person, its parameter `changes` in words; `changes` are the decisions that are
    others now."""

    type: ClassVar[str] = "healed"
    phase: str
    step: int
    changes: dict[str, Any]
    plan: dict[str, Any]
    message: Message

    @property
    def rung(self) -> str:
        """The rung in words, for the video's metadata, the ledger and whoever lists what a job went through."""
        return f"{self.phase}, step {self.step}: {self.message.params.get('changes', '')}"


@dataclass(frozen=True)
class Paused:
    """The run was laid down after `step` denoising steps, which are on disk. `message` says why where nobody asked."""

    type: ClassVar[str] = "paused"
    step: int
    message: Message | None = None


Event = (
    PhaseStarted
    | PhaseFinished
    | StepFinished
    | WindowFinished
    | MemorySampled
    | PreviewReady
    | Noted
    | StateChanged
    | SteadinessMeasured
    | Done
    | Failed
    | Cancelled
    | Resumed
    | Healed
    | Paused
)
_TYPES: dict[str, type] = {cls.type: cls for cls in Event.__args__}
FINAL_STATES = ("done", "failed", "cancelled")


def to_json(event: Event) -> dict[str, Any]:
    """The event as plain JSON values with its `type`."""
    values = asdict(event)
    if isinstance(getattr(event, "message", None), Message):
        values["message"] = event.message.to_json()
    return {"type": event.type, **values}


def from_json(values: dict[str, Any]) -> Event:
    """The event that `to_json` wrote. Raises KeyError for an unknown type."""
    values = dict(values)
    cls = _TYPES[values.pop("type")]
    if values.get("message") is not None:
        values["message"] = Message.from_json(values["message"])
    return cls(**{name: values[name] for name in cls.__dataclass_fields__ if name in values})


def memory_line(event: MemorySampled, unit: str = "GB") -> str:
    """The log line people know from other tools, in units of 2**30 bytes, which torch calls GB."""
    gib = 2**30
    return (
        f"[Memory] Step {event.step}: Allocated={event.allocated_bytes / gib:.2f}{unit}, "
        f"Reserved={event.reserved_bytes / gib:.2f}{unit}"
    )
