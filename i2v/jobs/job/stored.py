"""A job as it is kept: what the list knows of it, and the part of that which its folder says too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from i2v.families import SPECS
from i2v.jobs.job.states import State
from i2v.messages import Message
from i2v.models.entry import ModelEntry
from i2v.plan import Plan
from i2v.request import GenerationRequest

Task = Literal["generate", "decode", "train"]


@dataclass(frozen=True)
class StoredJob:
    """One row of the list. Times are unix seconds, `folder` is relative to the outputs folder.

    `place` orders the jobs of one owner, lowest first; the store gives it. `attempts` counts runs that were started.
    `planned` holds what the planner said beyond the plan (what is fixed, the ladder), as JSON. `card` is the UUID of
    the card it runs on, empty for none. `parent` is the job this one repeats. `task` says whether a video
    is to be made, or only decoded again, or a LoRA trained: the request then says what the list shows of it, and what
    is asked lies in its folder (`job.training`). `entry` is None for a folder older than the list. `deleted`: when it
    went to the bin.
    """

    id: str
    folder: str
    request: GenerationRequest
    plan: Plan
    entry: ModelEntry | None
    submitted: float
    state: State = "queued"
    owner: str = "local"
    priority: int = 0
    place: int = 0
    started: float | None = None
    ended: float | None = None
    attempts: int = 0
    error: Message | None = None
    planned: dict[str, Any] | None = None
    card: str = ""
    seconds_predicted: float | None = None
    parent: str | None = None
    task: Task = "generate"
    deleted: float | None = None

    @property
    def steps(self) -> int:
        """Denoising steps of the whole run."""
        spec = SPECS.get(self.entry.family) if self.entry is not None else None
        return self.request.num_inference_steps if spec is None else spec.steps_in_all(self.request)

    def ticket(self) -> dict[str, Any]:
        """What `job.json` says: all that a row has from the start and request.json and plan.json do not hold."""
        return {
            "id": self.id,
            "folder": self.folder,
            "submitted": self.submitted,
            "owner": self.owner,
            "priority": self.priority,
            "entry": self.entry and self.entry.to_json(),
            "planned": self.planned,
            "card": self.card,
            "seconds_predicted": self.seconds_predicted,
            "parent": self.parent,
            "task": self.task,
        }

    @classmethod
    def from_ticket(cls, ticket: Mapping[str, Any], request: GenerationRequest, plan: Plan) -> StoredJob:
        """The job as it was submitted. Raises KeyError, TypeError or ValueError for a ticket that is none."""
        if not all(isinstance(ticket[name], str) for name in ("id", "folder", "owner", "card")):
            raise TypeError("not a job's ticket")
        return cls(
            id=ticket["id"],
            folder=ticket["folder"],
            request=request,
            plan=plan,
            entry=ModelEntry.from_json(ticket["entry"]) if ticket["entry"] else None,
            submitted=float(ticket["submitted"]),
            owner=ticket["owner"],
            priority=int(ticket["priority"]),
            planned=ticket["planned"],
            card=ticket["card"],
            seconds_predicted=ticket["seconds_predicted"],
            parent=ticket["parent"],
            task=ticket["task"] if ticket["task"] in get_args(Task) else "generate",
        )


def hidden_folder(outputs_dir: Path) -> Path:
    """Where the list, the lease, the bin and the cache are: hidden, so that no file server hands it out."""
    return outputs_dir.absolute() / ".i2v"
