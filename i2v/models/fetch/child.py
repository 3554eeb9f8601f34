"""The process that fetches by one route: `python -m i2v.models.fetch.child`, started by `process.py`.

No library that downloads can be told to stop, so whoever wants it to stop kills this process. What has arrived by then
is on the disk, and the next process goes on at that byte. It ends by itself with whoever started it: its stdin ends.
"""

from __future__ import annotations

import fcntl
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx2

from i2v.models.fetch.contents import Contents, digest_if_right
from i2v.models.fetch.modelscope import ModelScopeSource
from i2v.models.fetch.orders import FetchLine, FetchOrder
from i2v.models.fetch.parts import PARTS, part_of
from i2v.models.fetch.published import PublishedFile
from i2v.models.fetch.sources import Source
from i2v.models.fetch.troubles import RangeIgnored, RouteFailed, Trouble, trouble_of
from i2v.whole_file import put_in_place

_TRIES = 3  # of a connection that brings nothing new
_SECONDS_BETWEEN_LINES = 0.1

Tell = Callable[[FetchLine], None]
AnySource = Source | ModelScopeSource


def fetch_all(order: FetchOrder, source: AnySource, tell: Tell) -> None:
    """Fetch what is ordered, several files at once, and tell how it goes. After a trouble no other file is begun."""
    given_up = threading.Event()

    def one(file: PublishedFile) -> None:
        if given_up.is_set():
            return
        try:
            digest = _fetch_file(order, source, file, tell)
            tell(FetchLine(file.name, digest=digest))
        except Exception as error:
            given_up.set()
            tell(FetchLine(file.name, trouble=trouble_of(error, source.endpoint).to_json()))

    with _alone(order, tell), ThreadPoolExecutor(order.at_once) as pool:
        list(pool.map(one, order.published.files))


def _fetch_file(order: FetchOrder, source: AnySource, file: PublishedFile, tell: Tell) -> str:
    """Bring one file under its name; its digest. Raises RouteFailed, OSError and what the network raises."""
    final, part = order.folder / file.name, part_of(order.folder, file)
    final.parent.mkdir(parents=True, exist_ok=True)
    part.parent.mkdir(parents=True, exist_ok=True)
    with _working(tell):
        digest = digest_if_right(final, file)  # another process may have brought it while this one waited
    if digest is not None:
        return digest
    while True:
        contents, from_first_byte = _receive(order, source, file, tell)
        if contents.right:
            break
        part.unlink()
        tell(FetchLine(file.name, discarded=contents.size_bytes))
        if from_first_byte:  # else an earlier route may have brought what is wrong
            raise RouteFailed(Trouble("wrong_contents", file=file.name))
    with _working(tell):
        put_in_place(part, final)
    return contents.digest


def _receive(order: FetchOrder, source: AnySource, file: PublishedFile, tell: Tell) -> tuple[Contents, bool]:
    """Let the file's part grow to its size. Its contents, and whether all of them came by this route."""
    part = part_of(order.folder, file)
    with open(part, "ab", buffering=0) as out:
        contents = Contents(file)
        begun_at = out.tell()
        if begun_at > file.size_bytes:
            out.truncate(0)
            begun_at = 0
        if begun_at:
            with _working(tell):
                contents.add_file(part)
        furthest, tries = begun_at, 0
        came = _Came(file, tell)
        while contents.size_bytes < file.size_bytes:
            try:
                for data in source.stream(file, contents.size_bytes):
                    if contents.size_bytes + len(data) > file.size_bytes:
                        raise RouteFailed(Trouble("wrong_size", source.host, file=file.name))
                    _write(out, data)
                    contents.add(data)
                    came.add(len(data))
                    if contents.size_bytes > furthest:
                        furthest, tries = contents.size_bytes, 0
                if contents.size_bytes < file.size_bytes:
                    raise httpx2.RemoteProtocolError("The answer ended before the file did")
            except RangeIgnored:
                out.truncate(0)
                came.tell()
                tell(FetchLine(file.name, discarded=contents.size_bytes))
                contents, begun_at = Contents(file), 0
            except (httpx2.TransportError, RouteFailed) as error:
                tries += 1
                if tries >= _TRIES or not _may_pass(error):
                    raise
                time.sleep(order.seconds_between_tries * tries)
            finally:
                came.tell()
    return contents, begun_at == 0


class _Came:
    """Tells of one file's bytes ten times a second: they come in thousands of pieces."""

    def __init__(self, file: PublishedFile, tell: Tell) -> None:
        self._file, self._tell = file, tell
        self._bytes, self._told = 0, 0.0

    def add(self, count: int) -> None:
        self._bytes += count
        if time.monotonic() - self._told >= _SECONDS_BETWEEN_LINES:
            self.tell()

    def tell(self) -> None:
        if self._bytes:
            self._tell(FetchLine(self._file.name, bytes=self._bytes))
        self._bytes, self._told = 0, time.monotonic()


def _write(out, data: bytes) -> None:  # type: ignore[no-untyped-def]
    """All of `data`: a write to a raw file may take less."""
    view = memoryview(data)
    while view:
        view = view[out.write(view) :]


def _may_pass(error: Exception) -> bool:
    """Whether the same may go well in a second."""
    if isinstance(error, RouteFailed):
        return error.trouble.kind in ("server", "unreachable")
    return trouble_of(error, "").kind == "unreachable"


@contextmanager
def _working(tell: Tell) -> Iterator[None]:
    tell(FetchLine(working=1))
    try:
        yield
    finally:
        tell(FetchLine(working=-1))


@contextmanager
def _alone(order: FetchOrder, tell: Tell) -> Iterator[None]:
    """Only one process fetches into a folder: another waits, and then finds what it wanted."""
    (order.folder / PARTS).mkdir(parents=True, exist_ok=True)
    with (order.folder / PARTS / "lock").open("w") as lock:
        with _working(tell):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _source(order: FetchOrder) -> AnySource:
    if order.modelscope:
        return ModelScopeSource(order.published, order.endpoint)
    return Source(order.published, order.endpoint, xet=order.xet)


def _end_with_stdin() -> None:
    sys.stdin.read()
    os._exit(0)


def main() -> int:
    """Read an order, follow it, tell it."""
    order = FetchOrder.from_line(sys.stdin.readline())
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    telling = threading.Lock()

    def tell(told: FetchLine) -> None:
        with telling:
            sys.stdout.write(told.to_line())
            sys.stdout.flush()

    try:
        fetch_all(order, _source(order), tell)
    except Exception as error:
        tell(FetchLine(trouble=trouble_of(error, order.endpoint).to_json()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
