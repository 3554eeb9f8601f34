"""One model as page, command line and engine see it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from i2v.messages import Message, message

ASSETS = Path(__file__).parents[1] / "assets"
"""The folder of the models that come with the app."""


@dataclass(frozen=True)
class ModelEntry:
    """`name` is what a request carries. `folder` is where the checkpoint is or will be. `present` means it can be
    used without a download. `size_bytes` is its size on disk, or what the download takes (0 when not known).
    `problem` says why a folder that is there cannot be used."""

    name: str
    family: str
    title: str
    folder: Path | None
    hub_id: str | None
    present: bool
    size_bytes: int
    problem: Message | None

    @property
    def label(self) -> Message:
        """The title with what a person must know before choosing it."""
        if self.problem is not None:
            return message("models.label_problem", title=self.title)
        if not self.present:
            return message("models.label_download", title=self.title, size_gib=round(self.size_bytes / 2**30, 1))
        return message("models.label", title=self.title)

    def to_json(self) -> dict[str, Any]:
        """This entry as plain JSON values; `from_json` reads it back unchanged."""
        values = asdict(self)
        values["folder"] = None if self.folder is None else str(self.folder)
        values["problem"] = None if self.problem is None else self.problem.to_json()
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> ModelEntry:
        """Read back what `to_json` wrote, here or in an earlier version: what an entry no longer holds is left out."""
        folder, problem = values["folder"], values["problem"]
        known = {
            "folder": None if folder is None else Path(folder),
            "problem": None if problem is None else Message.from_json(problem),
        }
        names = {one.name for one in fields(cls)}
        return cls(**{name: value for name, value in {**values, **known}.items() if name in names})
