"""The queue of downloads: models come one after the other in a thread of their own, by the processes of
`models/fetch`, whatever jobs do meanwhile.

The list is on the disk, so what was not finished goes on when the app is started again, at the byte where it was.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from i2v.downloads.discard import discard
from i2v.downloads.list import KeptList, read_rows
from i2v.downloads.retries import MAY_PASS, Retries
from i2v.downloads.state import Download, Rate, new_download
from i2v.messages import Message, UserError, message
from i2v.models.catalogue import find_model
from i2v.models.download import ensure_present
from i2v.models.entry import ModelEntry
from i2v.models.fetch.record import read_record
from i2v.settings.settings import Settings

log = logging.getLogger(__name__)

WRITE_SECONDS = 10.0  # between writings of how far a download has come
CLOSING_SECONDS = 5.0
FRESH: dict[str, Any] = {"bytes_per_second": None, "seconds_left": None, "note": None}
"""What is known of a download only while it comes."""


class _Unwanted(Exception):
    """The download that comes is not to come any more."""


class Downloads:
    """Any thread may call. `close` it when done."""

    def __init__(self, settings: Settings, *, go_on: bool = True, fetches: bool = True) -> None:
        """With `go_on` what waits from earlier comes by itself, else only what is asked for. Without `fetches` nothing
        comes: the list alone is changed, for the next start."""
        self._settings = settings
        self._go_on = go_on
        self._fetches = fetches
        self._changed = threading.Condition(threading.RLock())
        self._list = KeptList(settings.models_dir)
        self._all: dict[str, Download] = {}
        self._asked: set[str] = set()
        self._coming: str | None = None
        self._to_discard: dict[str, Download] = {}
        self._retries = Retries()
        self._listeners: list[Callable[[], None]] = []
        self._written = 0.0
        self._closed = False
        self._thread: threading.Thread | None = None
        self._take_list()

    # --- asking ---

    @property
    def keeps_list(self) -> bool:
        """Whether what is changed here is changed on the disk: not while another program keeps the list."""
        return self._list.owned

    def all(self) -> list[Download]:
        """Every download in the order in which they come, also those that have ended."""
        with self._changed:
            return list(self._all.values())

    def of(self, name: str) -> Download | None:
        """The download of a model, by one of its names or its id."""
        with self._changed:
            return next((one for one in self._all.values() if one.called(name)), None)

    def elsewhere(self) -> list[Download]:
        """What another program brings into the same models folder, as it wrote that last. When that has ended, what it
        left is on this list."""
        with self._changed:
            if self._closed:
                return []
            had = self._list.owned
            self._take_list()
            owned = self._list.owned
        if owned and not had:
            self._tell()
        return [] if owned else [one for one in read_rows(self._settings.models_dir) if one.state == "coming"]

    def on_change(self, listener: Callable[[], None]) -> None:
        """Have `listener` called, by any thread, after a download has changed its state."""
        self._listeners.append(listener)

    # --- steering ---

    def add(self, model: str | ModelEntry) -> Download:
        """The download of `model`, which comes when it is its turn: the one that is there already, a failed one tried
        again. Of a model that is on the disk one that is done. Raises UserError for what is no model of the hub."""
        began = time.time()
        entry = find_model(model, self._settings) if isinstance(model, str) else model
        new = new_download(entry, began)
        if new.state == "done":
            return new
        with self._changed:
            if self._closed:
                raise UserError("downloads.closed")
            self._take_list(make=True)
            there = self._all.get(new.id)
            if there is not None and there.state in ("waiting", "coming", "paused"):
                self._ask_for(new.id)
                self._begin()
                return there
            if there is not None and there.state == "failed":
                new = replace(new, added=there.added, done_bytes=there.done_bytes, total_bytes=there.total_bytes)
            self._all.pop(new.id, None)  # its place is at the end now
            self._all[new.id] = new
            self._ask_for(new.id)
            self._begin()
        self._tell()
        return new

    def pause(self, download_id: str) -> bool:
        """Lay it down: what has come stays. False where it neither comes nor waits."""
        with self._changed:
            one = self._known(download_id)
            changed = one.state in ("waiting", "coming")
            if changed:
                self._retries.forget(download_id)
                self._put(replace(one, state="paused", **FRESH))
        if changed:
            self._tell()
        return changed

    def resume(self, download_id: str) -> bool:
        """Let one that was paused, has failed or broke off come again from where it was. False for another."""
        with self._changed:
            one = self._known(download_id)
            changed = one.state in ("paused", "failed") or self._retries.waits(download_id)
            self._ask_for(download_id)
            if changed:
                self._put(replace(one, state="waiting", error=None, **FRESH))
        if changed:
            self._tell()
        return changed

    def cancel(self, download_id: str) -> bool:
        """Take it off the list, and what it has brought off the disk; the model of one that is done stays. False where
        it was gone in the meantime."""
        with self._changed:
            one = self._known(download_id)
            del self._all[download_id]
            self._retries.forget(download_id)
            if one.state != "done" and download_id == self._coming:
                self._to_discard.setdefault(download_id, one)  # by the thread, once nothing writes there any more
            elif one.state != "done":
                discard(self._folder(one), one.family, one.added)
            self._begin()
        self._tell()
        return True

    def close(self) -> None:
        """Stop. What comes or waits goes on at the next start."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(CLOSING_SECONDS)
        with self._changed:
            self._list.write(self._all.values())
            self._list.release()

    # --- inside ---

    def _known(self, download_id: str) -> Download:
        if download_id not in self._all:
            raise UserError("downloads.unknown", id=str(download_id))
        return self._all[download_id]

    def _take_list(self, *, make: bool = False) -> None:
        """Read the list once it is ours to keep: at the start, or when the program that kept it has ended."""
        with self._changed:
            had = self._list.owned
            if not had and self._list.take(make=make):
                earlier = {one.id: one for one in self._list.read() if one.state != "done"}
                self._all = earlier | self._all
                if self._go_on:
                    self._asked |= set(earlier)
                self._begin()

    def _put(self, one: Download) -> None:
        self._all[one.id] = one
        self._begin()

    def _begin(self) -> None:
        """Write the list, and let the thread look at it; there is one once something waits."""
        self._write()
        if self._thread is None and self._first() is not None and not self._closed:
            self._thread = threading.Thread(target=self._work, name="downloads", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _ask_for(self, download_id: str) -> None:
        """Somebody wants it now."""
        self._asked.add(download_id)
        self._retries.forget(download_id)

    def _write(self) -> None:
        self._list.write(self._all.values())
        self._written = time.monotonic()

    def _tell(self) -> None:
        """Outside of the lock: a listener may hold one that somebody who asks us holds."""
        for listener in self._listeners:
            listener()

    def _folder(self, one: Download) -> Path:
        return self._settings.models_dir / one.id

    def _first(self) -> Download | None:
        if not self._fetches:
            return None
        now = time.monotonic()
        asked = (one for one in self._all.values() if one.state == "waiting" and one.id in self._asked)
        return next((one for one in asked if self._retries.is_due(one.id, now)), None)

    def _work(self) -> None:
        while (one := self._next()) is not None:
            self._tell()
            self._bring(one)
            with self._changed:
                self._coming = None
                if (gone := self._to_discard.pop(one.id, None)) is not None:
                    discard(self._folder(gone), gone.family, gone.added)
            self._tell()

    def _next(self) -> Download | None:
        with self._changed:
            while not self._closed:
                if (one := self._first()) is not None:
                    self._coming = one.id
                    self._retries.begins(one.id)
                    one = self._all[one.id] = replace(one, state="coming", error=None, **FRESH)
                    self._write()
                    return one
                self._changed.wait(self._retries.next_in(time.monotonic()))
            return None

    def _bring(self, one: Download) -> None:
        """Fetch it, and say what came of it."""
        settings, rate = self._settings, Rate()

        def on_progress(done_bytes: int, total_bytes: int) -> None:
            rate.add(time.monotonic(), done_bytes)
            self._progress(one.id, done_bytes, total_bytes, rate)

        def on_note(note: Message) -> None:
            self._while_it_comes(one.id, note=note)

        try:
            self._while_it_comes(one.id)
            entry = find_model(one.model, settings)
            ensure_present(
                entry,
                models_dir=settings.models_dir,
                endpoint=settings.hf_endpoint,
                offline=settings.offline,
                on_progress=on_progress,
                on_note=on_note,
                on_wait=lambda: self._while_it_comes(one.id),
            )
            self._end(one.id, state="done")
        except _Unwanted:
            return
        except UserError as error:
            if not self._again_later(one, error.message):
                self._end(one.id, state="failed", error=error.message)
        except Exception:
            log.exception("The download of %s failed", one.model)
            told = message("downloads.internal", log=str(settings.logs_dir))
            self._end(one.id, state="failed", error=told)

    def _again_later(self, begun: Download, reason: Message) -> bool:
        """Whether it broke off for a reason that may pass, and so is tried again by itself."""
        with self._changed:
            now = self._all.get(begun.id)
            if now is None or now.state != "coming" or reason.id not in MAY_PASS:
                return False
            came = now.done_bytes > begun.done_bytes
            seconds = self._retries.broke_off(begun.id, time.monotonic(), came=came)
            if seconds is None:
                return False
            note = message("downloads.broke_off", minutes=max(1, round(seconds / 60)), reason=reason.to_json())
            self._all[begun.id] = replace(now, state="waiting", **FRESH | {"note": note})
            self._write()
            return True

    def _progress(self, download_id: str, done_bytes: int, total_bytes: int, rate: Rate) -> None:
        self._while_it_comes(
            download_id,
            done_bytes=done_bytes,
            total_bytes=total_bytes,
            bytes_per_second=rate.bytes_per_second,
            seconds_left=rate.seconds_left(total_bytes - done_bytes),
        )

    def _while_it_comes(self, download_id: str, **changes: Any) -> None:
        """Raises _Unwanted where it is not to come any more."""
        with self._changed:
            one = self._all.get(download_id)
            if self._closed or one is None or one.state != "coming":
                raise _Unwanted
            self._all[download_id] = replace(one, **changes)
            if time.monotonic() - self._written >= WRITE_SECONDS:
                self._write()

    def _end(self, download_id: str, **changes: Any) -> None:
        with suppress(_Unwanted), self._changed:
            self._while_it_comes(download_id, **FRESH | changes)
            one = self._all[download_id]
            if one.state == "done":
                record = read_record(self._folder(one))
                route = record.route if record else ""
                self._all[download_id] = replace(one, route=route, done_bytes=one.total_bytes)
            self._write()
