"""Bringing a model's files into its folder: by one route after the other, until all are there and found right."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from i2v.messages import Message, message
from i2v.models.fetch.contents import digest_if_right
from i2v.models.fetch.orders import FetchOrder
from i2v.models.fetch.parts import being_fetched, discard_parts, part_bytes
from i2v.models.fetch.process import Ended, FetchProcess
from i2v.models.fetch.published import Published, PublishedFile
from i2v.models.fetch.record import Fetched, found_right, read_record, write_record
from i2v.models.fetch.routes import Route
from i2v.models.fetch.stall import StallLimits, StallWatch
from i2v.models.fetch.troubles import Trouble
from i2v.units import GIB

log = logging.getLogger(__name__)

SPARE_BYTES = GIB // 4  # left free beside the model, for jobs' own files
LEAST_FREE_BYTES = GIB // 16  # where other programs took the rest meanwhile
_SECONDS_BETWEEN_LOOKS = 0.25
_MOST_SECONDS_TO_WAIT = 600.0  # for a hub that asks for patience
_SECONDS_TO_WAIT = 10.0  # where it does not say how long
_MOST_WAITS = 5
_SECONDS_TO_START = 120.0

Progress = Callable[[int, int], None]
"""Called with (done_bytes, total_bytes), several times a second, also while nothing comes; what it raises ends it."""


class FetchFailed(Exception):
    """No route brought all files: what each said, in the order in which they were asked."""

    def __init__(self, said: Sequence[tuple[Route, Trouble]], short_bytes: int = 0) -> None:
        self.said = tuple(said)
        self.short_bytes = short_bytes
        super().__init__(", ".join(f"{route.name}: {trouble.kind}" for route, trouble in said))

    @property
    def last(self) -> Trouble:
        return self.said[-1][1]


@dataclass(frozen=True)
class Limits:
    """When a route has stopped, how long a wait may be, how much of the disk stays free."""

    stall: StallLimits = field(default_factory=StallLimits)
    most_seconds_to_wait: float = _MOST_SECONDS_TO_WAIT
    least_free_bytes: int = LEAST_FREE_BYTES
    seconds_between_tries: float = 0.5
    """Of a connection that breaks at once; twice that before the third."""


USUAL = Limits()


def fetch(
    published: Published,
    folder: Path,
    routes: Sequence[Route],
    *,
    on_progress: Progress,
    on_note: Callable[[Message], None] = lambda _note: None,
    limits: Limits | None = None,
) -> Route | None:
    """Bring `published` into `folder`, what of it is missing or not as published. The route that brought the last file,
    None where nothing was missing. Raises FetchFailed, OSError, and what `on_progress` raises; what has arrived by then
    is kept, and the next call goes on there."""
    with being_fetched(folder):
        return _Fetch(published, folder, on_progress, on_note, limits or USUAL).run(list(routes))


def missing_bytes(published: Published, folder: Path) -> int:
    """How many bytes are still to come, by the sizes of what is there."""
    return sum(
        0 if _size(folder / file.name) == file.size_bytes else file.size_bytes - part_bytes(folder, file)
        for file in published.files
    )


class _Fetch:
    """One call of `fetch`, and what it knows."""

    def __init__(
        self,
        published: Published,
        folder: Path,
        on_progress: Progress,
        on_note: Callable[[Message], None],
        limits: Limits,
    ) -> None:
        self._published, self._folder = published, folder
        self._on_progress, self._on_note, self._limits = on_progress, on_note, limits
        self._total = sum(file.size_bytes for file in published.files)
        self._furthest = 0
        known = read_record(folder)
        if known is None or known.hub_id != published.hub_id:
            known = Fetched(published.hub_id, published.revision, "")
        self._record = known

    def run(self, routes: list[Route]) -> Route | None:
        """Round after round, as long as a round brings something."""
        missing = self._look()
        said: list[tuple[Route, Trouble]] = []
        patient = False
        while missing:
            had = self._have(missing)
            for route in list(routes):
                if said:
                    self._on_note(self._changed(said[-1], route))
                trouble = self._by(route, missing, patient)
                missing = [file for file in missing if not self._record.has_right(self._folder, file)]
                if not missing:
                    return self._whole(route)
                trouble = trouble or Trouble("failed")
                said.append((route, trouble))
                if trouble.final:
                    raise FetchFailed(said, self._total - self._have(missing))
                if trouble.kind == "wrong_contents":
                    routes.remove(route)
            slow = any(trouble.kind == "slow" for _, trouble in said)
            if not routes or (self._have(missing) <= had and (patient or not slow)):
                raise FetchFailed(said)
            patient = slow  # where every way is slow, a slow one is the right one
        return None

    def _look(self) -> list[PublishedFile]:
        """What is missing. A file that is there and was not looked at yet is read once. One that is not as published
        stays until the other has come: it may be somebody's own."""
        unseen = [file for file in self._published.files if not self._record.has_right(self._folder, file)]
        missing: list[PublishedFile] = []
        for number, file in enumerate(unseen):
            had = self._have([*missing, *unseen[number:]])
            path, read = self._folder / file.name, 0

            def on_bytes(count: int, had: int = had) -> None:
                nonlocal read
                read += count
                self._tell_progress(had + read)

            digest = digest_if_right(path, file, on_bytes)
            if digest is None:
                missing.append(file)
            else:
                self._note_right(file.name, digest, self._record.route)
        self._tell_progress(self._have(missing))
        return missing

    def _by(self, route: Route, missing: list[PublishedFile], patient: bool) -> Trouble | None:
        """Fetch what is missing by one route, waiting where its hub asks for it."""
        for wait in range(_MOST_WAITS + 1):
            trouble = self._once(route, missing, patient)
            missing = [file for file in missing if not self._record.has_right(self._folder, file)]
            if trouble is None or trouble.kind != "busy" or wait == _MOST_WAITS:
                return trouble
            seconds = trouble.seconds or _SECONDS_TO_WAIT
            if seconds > self._limits.most_seconds_to_wait:
                return trouble
            self._on_note(message("models.fetch_waits", host=trouble.host, seconds=round(seconds)))
            until = time.monotonic() + seconds
            while (left := until - time.monotonic()) > 0:
                self._tell_progress(0)
                time.sleep(min(left, _SECONDS_BETWEEN_LOOKS))
        return None

    def _once(self, route: Route, missing: list[PublishedFile], patient: bool) -> Trouble | None:
        """One process by one route, until it ends or brings nothing more."""
        wanted = self._published.only(file.name for file in missing)
        pause = self._limits.seconds_between_tries
        order = FetchOrder(
            wanted, self._folder, route.endpoint, route.xet, route.of_modelscope, seconds_between_tries=pause
        )
        limits = self._limits.stall
        if patient:
            limits = StallLimits(limits.silent_seconds, limits.slow_seconds, 0)
        come, working = 0, 0
        began_with, trouble = self._have(missing), None
        began, watch = time.monotonic(), None
        looked = 0.0
        with FetchProcess(order) as process:
            while True:
                try:
                    told = process.told(_SECONDS_BETWEEN_LOOKS)
                except Ended as ended:
                    return trouble or (Trouble("failed", reason=f"exit code {ended.code}") if ended.code else None)
                now = time.monotonic()
                if told is not None:
                    come += told.bytes
                    began_with -= told.discarded
                    working += told.working
                    if told.trouble is not None and trouble is None:
                        trouble = Trouble.from_json(told.trouble)
                    if told.digest:
                        self._note_right(told.file, told.digest, route.name)
                self._tell_progress(began_with + come)
                if watch is None:  # a new process takes its time on a busy machine
                    if told is not None:
                        watch = StallWatch(limits, now)
                    elif now - began > _SECONDS_TO_START:
                        return Trouble("failed", reason="no beginning")
                elif working:
                    watch.restart(now, come)
                elif stall := watch.stalled(now, come):
                    return Trouble(stall, seconds=_seconds(limits, stall))
                if now - looked >= _SECONDS_BETWEEN_LOOKS:
                    looked = now
                    if shutil.disk_usage(self._folder).free < self._limits.least_free_bytes:
                        return Trouble("disk_full")

    def _whole(self, route: Route) -> Route:
        discard_parts(self._folder, self._published.files)
        self._tell_progress(self._total)
        return route

    def _note_right(self, name: str, digest: str, route: str) -> None:
        record = self._record.with_file(found_right(self._folder, name, digest))
        self._record = Fetched(self._published.hub_id, self._published.revision, route, record.files)
        write_record(self._folder, self._record)

    def _have(self, missing: Sequence[PublishedFile]) -> int:
        """How many bytes are here: whole files and beginnings."""
        return self._total - sum(file.size_bytes - part_bytes(self._folder, file) for file in missing)

    def _tell_progress(self, done_bytes: int) -> None:
        """What was thrown away takes nothing back: a bar that a person sees goes forward only."""
        self._furthest = max(self._furthest, min(done_bytes, self._total))
        self._on_progress(self._furthest, self._total)

    def _changed(self, said: tuple[Route, Trouble], route: Route) -> Message:
        before, trouble = said
        return message(
            "models.fetch_other_route",
            before=message(f"models.route_{before.name}").to_json(),
            said=trouble.message().to_json(),
            route=message(f"models.route_{route.name}").to_json(),
        )


def _seconds(limits: StallLimits, stall: str) -> float:
    return limits.silent_seconds if stall == "silent" else limits.slow_seconds


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return -1
