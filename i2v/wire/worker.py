"""What passes between the service and its worker process: commands down, reports up, one JSON object per line.

Commands travel on the worker's stdin, reports on a pipe of their own, so that no library's print can be taken for
one. Both sides import this file. A line that cannot be read is a `ProtocolError`, never skipped: after it nothing
on that pipe can be trusted. Numbers are finite (NaN and infinity are not JSON).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from i2v import events
from i2v.events import Event

EXIT_CARD_LOST = 65
"""The exit code of a worker that can use its card no more; another process can."""


class ProtocolError(Exception):
    """A line that is not a command or report of this protocol."""


@dataclass(frozen=True)
class Run:
    """Run one job. `request`, `plan` and `entry` are the `to_json` of GenerationRequest, Plan and ModelEntry;
    `folder` is the job folder, `models_dir` where a missing model is fetched to, `log` the file that the worker's
    prints end in, all absolute. `endpoint` is the hub to fetch from (None for the library's own), `offline` forbids
    fetching. `work` is "generate", "decode" for the latents that lie in the folder, or "train", of which `training`
    says all: what `i2v.worker.training` takes. `ladder` are the `to_json` of Rungs, the plan's own first; `healed` the
    rungs this job has taken already, in words. `cache` is where encoded prompts and pictures are kept,
    `checkpoint_seconds` how often the run's progress is written, `stop_at` the step after which it is laid down by
    itself. LoRAs lie in `models_dir` and in `lora_folders`, all absolute too."""

    type: ClassVar[str] = "run"
    job_id: str
    folder: str
    request: dict[str, Any]
    plan: dict[str, Any]
    entry: dict[str, Any]
    models_dir: str
    log: str
    endpoint: str | None = None
    offline: bool = False
    work: str = "generate"
    training: dict[str, Any] | None = None
    ladder: list[dict[str, Any]] = field(default_factory=list)
    healed: list[str] = field(default_factory=list)
    cache: str | None = None
    checkpoint_seconds: float = 5.0
    stop_at: int | None = None
    lora_folders: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Cancel:
    """End job `job_id` at the next step; ignored when that job is not running (it may just have ended)."""

    type: ClassVar[str] = "cancel"
    job_id: str


@dataclass(frozen=True)
class Pause:
    """Lay job `job_id` down at the next step, with its progress on disk; ignored as `Cancel` is."""

    type: ClassVar[str] = "pause"
    job_id: str


@dataclass(frozen=True)
class Started:
    """Process `pid` has taken job `job_id` and is bound to its parent's life. Nothing heavy is imported yet."""

    type: ClassVar[str] = "started"
    job_id: str
    pid: int


@dataclass(frozen=True)
class Reported:
    """`event` happened in job `job_id`."""

    type: ClassVar[str] = "reported"
    job_id: str
    event: Event


@dataclass(frozen=True)
class Idle:
    """Job `job_id` is over, its memory is given back as far as it will be, the next `Run` may come."""

    type: ClassVar[str] = "idle"
    job_id: str


Command = Run | Cancel | Pause
Report = Started | Reported | Idle
_COMMANDS: dict[str, type] = {cls.type: cls for cls in Command.__args__}
_REPORTS: dict[str, type] = {cls.type: cls for cls in Report.__args__}


def encode(item: Command | Report) -> bytes:
    """One line, newline included. Raises ValueError for a number that is not finite."""
    values = {"type": item.type, **asdict(item)}
    if isinstance(item, Reported):
        values["event"] = events.to_json(item.event)
    # ASCII only: a line separator or a lone surrogate in a prompt can neither split nor break the line.
    return json.dumps(values, allow_nan=False).encode("ascii") + b"\n"


def decode_command(line: bytes) -> Command:
    """The command in `line`; raises ProtocolError."""
    return _decode(line, _COMMANDS)


def decode_report(line: bytes) -> Report:
    """The report in `line`; raises ProtocolError."""
    return _decode(line, _REPORTS)


def _decode(line: bytes, types: dict[str, type]) -> Any:
    try:
        if not line.endswith(b"\n"):
            raise ValueError("the line was cut off")
        values = json.loads(line, parse_constant=_refuse_constant)
        cls = types[values.pop("type")]
        if cls is Reported:
            values["event"] = events.from_json(values["event"])
        return cls(**values)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ProtocolError(f"{error.__class__.__name__}: {error} in {line[:200]!r}") from error


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")
