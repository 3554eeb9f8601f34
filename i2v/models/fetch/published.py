"""What a hub publishes of a model: its revision, and each file's size and digest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import PurePosixPath
from typing import Any


@dataclass(frozen=True)
class Origin:
    """A repository, its revision, and a file's name there."""

    hub_id: str
    revision: str
    name: str


@dataclass(frozen=True)
class PublishedFile:
    """A file as the hub describes it. Large ones have a `sha256`; of the others git's `git_sha1` of the whole object is
    known. A mirror may tell neither. `origin`: where it is published, if not in the model's repository by its name."""

    name: str
    size_bytes: int
    sha256: str | None = None
    git_sha1: str | None = None
    origin: Origin | None = None

    @property
    def digest(self) -> str:
        """The published digest, "sha256:..." or "git-sha1:...", "" where there is none."""
        if self.sha256:
            return f"sha256:{self.sha256}"
        return f"git-sha1:{self.git_sha1}" if self.git_sha1 else ""

    @classmethod
    def of_digest(cls, name: str, size_bytes: int, digest: str) -> PublishedFile:
        """The file of which that is known, `digest` as the property of that name has it."""
        kind, _, digits = digest.partition(":")
        return cls(
            name,
            size_bytes,
            sha256=digits if kind == "sha256" else None,
            git_sha1=digits if kind == "git-sha1" else None,
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> PublishedFile:
        origin = values["origin"]
        return cls(**values | {"origin": None if origin is None else Origin(**origin)})


@dataclass(frozen=True)
class Published:
    """A model's files at one revision, as the hub at `endpoint` tells them."""

    hub_id: str
    revision: str
    files: tuple[PublishedFile, ...]
    endpoint: str = ""

    @property
    def names(self) -> list[str]:
        return [file.name for file in self.files]

    def origin_of(self, file: PublishedFile) -> Origin:
        """Where that file is published."""
        return file.origin or Origin(self.hub_id, self.revision, file.name)

    def only(self, names: Iterable[str]) -> Published:
        """The same, with these files alone."""
        chosen = set(names)
        return replace(self, files=tuple(file for file in self.files if file.name in chosen))


def is_inside(name: str) -> bool:
    """Whether a repository's file name stays in the folder that it is put into."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\\" not in name
