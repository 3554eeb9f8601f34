"""Files and folders that appear whole or not at all, whatever ends their writing, the power too.

There is one way: written beside, under a hidden name; brought onto the disk; given its name; and the name brought onto
the disk as well. What a program that was killed leaves of it is hidden, and tidying knows its name. Bare Python: the
set-up writes its stamp so before anything is installed.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES, errno.EPERM, errno.EISDIR)


@contextmanager
def whole_file(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """The file to write into, which becomes `path` at the end of the block. Whatever ends the block early, it is gone,
    and what was at `path` is still there. Two may write the same at once: the last one stays.

    Not `durable`: after a power cut it may be empty. That is for what is made again in a moment, since waiting for the
    disk takes time. Raises OSError and what the block raises."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        yield part
        put_in_place(part, path, durable=durable)
    finally:
        with suppress(OSError):  # the folder itself may be gone or closed to us
            part.unlink(missing_ok=True)


def write_whole(path: Path, content: str | bytes, *, durable: bool = True) -> None:
    """Write a text (UTF-8) or bytes as `whole_file` does. Raises OSError."""
    with whole_file(path, durable=durable) as part:
        part.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


def copy_whole(source: Path, path: Path) -> None:
    """Copy a file's bytes as `whole_file` does. Raises OSError."""
    with whole_file(path) as part:
        shutil.copyfile(source, part)


def put_in_place(part: Path, path: Path, *, durable: bool = True) -> None:
    """Give the whole file `part` the name `path`; where it is to be `durable`, both are on the disk afterwards. Raises
    OSError."""
    if durable:
        _sync(part)
    os.replace(part, path)
    if durable:
        _sync_names(path.parent)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """The folder to write into, which becomes `path` at the end of the block; nothing may be there yet. Whatever ends
    the block early, nothing is left behind. Folders above it are made. Raises OSError and what the block raises."""
    unfinished = unfinished_path(path)
    named_in = [path.parent, *(parent.parent for parent in path.parents if not parent.exists())]
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        for inner in unfinished.rglob("*"):
            (_sync_names if inner.is_dir() else _sync)(inner)
        _sync_names(unfinished)
        unfinished.rename(path)
        for folder in named_in:
            _sync_names(folder)
    except BaseException:
        discard_folder(path)
        raise


def discard_folder(path: Path) -> None:
    """Remove the folder at `path`, or what was begun of it. It loses its name first: at no moment is there half of it.
    What cannot be removed stays, hidden."""
    unfinished = unfinished_path(path)
    if not unfinished.exists():
        with suppress(OSError):
            path.rename(unfinished)
    shutil.rmtree(unfinished, ignore_errors=True)


def unfinished_path(path: Path) -> Path:
    """The hidden name of a folder that is not whole yet, or no longer."""
    return path.with_name(f".{path.name}.unfinished")


def _sync(path: Path) -> None:
    """Wait until the file is on the disk. Raises OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_names(folder: Path) -> None:
    """Wait until the folder's list of names is on the disk, where its file system can be asked for that. Raises
    OSError."""
    try:
        _sync(folder)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
