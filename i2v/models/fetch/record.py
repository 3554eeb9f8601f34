"""What was fetched into a model's folder, and found right: `.i2v-fetched.json` in it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from i2v.models.fetch.published import PublishedFile
from i2v.whole_file import write_whole

RECORD = ".i2v-fetched.json"


@dataclass(frozen=True)
class FetchedFile:
    """A file when it was found right. `digest` is "sha256:..." or "git-sha1:..."; one that is changed later has another
    size or another `modified_ns`."""

    name: str
    size_bytes: int
    digest: str
    modified_ns: int

    def unchanged(self, folder: Path) -> bool:
        """Whether nothing was written to it since."""
        try:
            found = (folder / self.name).stat()
        except OSError:
            return False
        return (found.st_size, found.st_mtime_ns) == (self.size_bytes, self.modified_ns)


@dataclass(frozen=True)
class Fetched:
    """The files of `hub_id` at `revision` that were found right; `route` brought the last of them."""

    hub_id: str
    revision: str
    route: str
    files: tuple[FetchedFile, ...] = field(default=())

    def file(self, name: str) -> FetchedFile | None:
        return next((file for file in self.files if file.name == name), None)

    def with_file(self, file: FetchedFile) -> Fetched:
        """The same, with what is now known of one file."""
        others = [other for other in self.files if other.name != file.name]
        return replace(self, files=tuple(sorted([*others, file], key=lambda one: one.name)))

    def has_right(self, folder: Path, file: PublishedFile) -> bool:
        """Whether `file` lies in `folder` as published and was looked at, so that nobody has to look again."""
        known = self.file(file.name)
        if known is None or known.size_bytes != file.size_bytes or not known.unchanged(folder):
            return False
        return not file.digest or known.digest == file.digest


def found_right(folder: Path, name: str, digest: str) -> FetchedFile:
    """The record of a file that was just found right. Raises OSError."""
    found = (folder / name).stat()
    return FetchedFile(name, found.st_size, digest, found.st_mtime_ns)


def read_record(folder: Path) -> Fetched | None:
    """What was fetched into `folder`; None where nothing was, or what is written there is no such record."""
    try:
        values = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        files = tuple(
            FetchedFile(str(one["name"]), int(one["size_bytes"]), str(one["digest"]), int(one["modified_ns"]))
            for one in values["files"]
        )
        return Fetched(str(values["hub_id"]), str(values["revision"]), str(values["route"]), files)
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def write_record(folder: Path, fetched: Fetched) -> None:
    """Put the record into `folder`, whole or not at all. Raises OSError."""
    write_whole(folder / RECORD, json.dumps(asdict(fetched), indent=1, ensure_ascii=False))
