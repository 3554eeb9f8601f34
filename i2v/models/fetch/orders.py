"""What the process that fetches is told on its stdin, and what it tells on its stdout: one line of JSON each."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from i2v.models.fetch.published import Published, PublishedFile


@dataclass(frozen=True)
class FetchOrder:
    """Fetch `published` into `folder` from the hub at `endpoint`, or from ModelScope there. No token: the process finds
    it where the client of either keeps it."""

    published: Published
    folder: Path
    endpoint: str
    xet: bool
    modelscope: bool = False
    at_once: int = 4
    seconds_between_tries: float = 0.5

    def to_line(self) -> str:
        return json.dumps(asdict(self) | {"folder": str(self.folder)}) + "\n"

    @classmethod
    def from_line(cls, line: str) -> FetchOrder:
        values = json.loads(line)
        told = values["published"]
        files = tuple(map(PublishedFile.from_json, told["files"]))
        published = Published(told["hub_id"], told["revision"], files, told["endpoint"])
        return cls(**values | {"published": published, "folder": Path(values["folder"])})


@dataclass(frozen=True)
class FetchLine:
    """A line of the process that fetches. `bytes` and `discarded` count one file's bytes: so many came, so many were
    thrown away. `working`: +1 begins, -1 ends something that is not the route's to do. `digest`: the file is whole.
    `trouble`: it is given up, the file or all of them."""

    file: str = ""
    bytes: int = 0
    discarded: int = 0
    working: int = 0
    digest: str = ""
    trouble: dict[str, Any] | None = None

    def to_line(self) -> str:
        return json.dumps({name: value for name, value in asdict(self).items() if value}) + "\n"

    @classmethod
    def from_line(cls, line: str) -> FetchLine:
        return cls(**json.loads(line))
