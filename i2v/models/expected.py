"""Which contents each file of a model should have, as far as anybody wrote it down: this app when it fetched the
model, or the hub's own library, which names blobs by their contents and keeps a note beside what it puts into a
plain folder."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from i2v.models.fetch.published import PublishedFile
from i2v.models.fetch.record import read_record
from i2v.models.hub_cache import blob_digest

_NOTES = Path(".cache") / "huggingface" / "download"  # of the hub's library, in the folder that it has fetched into
_NOTE = ".metadata"
_DIGITS = {64: "sha256", 40: "git-sha1"}


@dataclass(frozen=True)
class ExpectedFile:
    """What a file should be: `digest` as "sha256:..." or, as git has it, "git-sha1:..."; `size_bytes` where known."""

    digest: str
    size_bytes: int | None = None

    def published(self, name: str, size_bytes: int) -> PublishedFile:
        """The same as the hub describes a file; `size_bytes` where none is known."""
        return PublishedFile.of_digest(name, self.size_bytes or size_bytes, self.digest)


def expected_files(folder: Path) -> Mapping[str, ExpectedFile]:
    """By their names in `folder`, the files of which it is known what they should be. What this app wrote down counts
    before what the hub's library did."""
    return {**dict(_noted(folder)), **dict(_blobs(folder)), **dict(_recorded(folder))}


def _recorded(folder: Path) -> Iterator[tuple[str, ExpectedFile]]:
    record = read_record(folder)
    for file in record.files if record is not None else ():
        yield file.name, ExpectedFile(file.digest, file.size_bytes)


def _blobs(folder: Path) -> Iterator[tuple[str, ExpectedFile]]:
    for file in (*folder.glob("*"), *folder.glob("*/*")):
        digits = blob_digest(file)
        if digits is not None:
            yield file.relative_to(folder).as_posix(), ExpectedFile(f"{_DIGITS[len(digits)]}:{digits}")


def _noted(folder: Path) -> Iterator[tuple[str, ExpectedFile]]:
    """Of each file the commit, the digest and the time, a line each."""
    for note in (folder / _NOTES).rglob(f"*{_NOTE}"):
        try:
            digits = note.read_text(encoding="utf-8").splitlines()[1].strip()
        except (OSError, ValueError, IndexError):
            continue
        if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", digits):
            name = note.relative_to(folder / _NOTES).as_posix().removesuffix(_NOTE)
            yield name, ExpectedFile(f"{_DIGITS[len(digits)]}:{digits}")
