"""The beginnings of files that are on their way: hidden, and gone on with by whichever route comes next."""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from glob import escape
from itertools import chain
from pathlib import Path

from i2v.models.fetch.published import PublishedFile

PARTS = Path(".cache") / "i2v"
"""Inside a model's folder; `.cache` is where huggingface_hub keeps its own as well."""
_COMING = PARTS / "coming"


def part_of(folder: Path, file: PublishedFile) -> Path:
    """Where the beginning of `file` lies. One of other contents has another name, so that no two are mixed."""
    mark = hashlib.sha256(f"{file.digest} {file.size_bytes}".encode()).hexdigest()[:12]
    return folder / PARTS / f"{file.name}.{mark}.part"


def part_bytes(folder: Path, file: PublishedFile) -> int:
    """How much of `file` has arrived."""
    try:
        return min(part_of(folder, file).stat().st_size, file.size_bytes)
    except OSError:
        return 0


def discard_parts(folder: Path, files: Iterable[PublishedFile]) -> None:
    """Remove what is left of `files` on their way, once they have arrived: beginnings of older contents, and what
    huggingface_hub's own downloads left when they were killed, which nothing goes on with."""
    left = [(folder / PARTS / file.name).parent.glob(f"{escape(Path(file.name).name)}.*.part") for file in files]
    left.append((folder / ".cache" / "huggingface" / "download").rglob("*.incomplete"))
    for path in chain.from_iterable(left):
        with suppress(OSError):
            path.unlink()


@contextmanager
def being_fetched(folder: Path) -> Iterator[None]:
    """Until the block ends, or the process, others can see that files are on their way into `folder`. Where that cannot
    be noted, they cannot."""
    try:
        (folder / PARTS).mkdir(parents=True, exist_ok=True)
        mark = (folder / _COMING).open("w")
    except OSError:
        yield
        return
    with mark:
        with suppress(OSError):
            fcntl.flock(mark, fcntl.LOCK_SH)
        yield


@contextmanager
def left_alone(folder: Path) -> Iterator[bool]:
    """Whether no process has files on their way into `folder`; until the block ends none begins to. Raises OSError."""
    try:
        mark = (folder / _COMING).open()
    except (FileNotFoundError, NotADirectoryError):
        yield True
        return
    with mark:
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
