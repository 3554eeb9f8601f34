"""Does a file hold what was published? Digests are computed while bytes pass by; a file is read only for what of it was
there before."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from i2v.models.fetch.published import PublishedFile

CHUNK_BYTES = 1 << 20


class Contents:
    """The digest of a file's bytes so far, of the kind that is published for it."""

    def __init__(self, file: PublishedFile) -> None:
        self._file = file
        self._hash = hashlib.sha256() if file.sha256 or not file.git_sha1 else hashlib.sha1(_git_head(file))
        self.size_bytes = 0

    def add(self, data: bytes) -> None:
        """The next bytes of the file."""
        self._hash.update(data)
        self.size_bytes += len(data)

    def add_file(self, path: Path, on_bytes: Callable[[int], None] = lambda _count: None) -> None:
        """The bytes of `path`, read once. Raises OSError."""
        with path.open("rb") as stream:
            while data := stream.read(CHUNK_BYTES):
                self.add(data)
                on_bytes(len(data))

    @property
    def digest(self) -> str:
        """In the words of `PublishedFile.digest`; our own sha256 where the hub tells none."""
        kind = "git-sha1" if self._hash.name == "sha1" else "sha256"
        return f"{kind}:{self._hash.hexdigest()}"

    @property
    def right(self) -> bool:
        """Whether size and digest are the published ones; the size alone where no digest is known."""
        same = not self._file.digest or self.digest == self._file.digest
        return self.size_bytes == self._file.size_bytes and same


def digest_if_right(
    path: Path, file: PublishedFile, on_bytes: Callable[[int], None] = lambda _count: None
) -> str | None:
    """The digest of the file at `path` where it is as published, else None. Raises OSError."""
    if not path.is_file() or path.stat().st_size != file.size_bytes:
        return None
    contents = Contents(file)
    contents.add_file(path, on_bytes)
    return contents.digest if contents.right else None


def _git_head(file: PublishedFile) -> bytes:
    """What git puts before a file's bytes when it computes their digest."""
    return f"blob {file.size_bytes}\0".encode()
