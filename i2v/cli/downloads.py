"""`python -m i2v models download` and `models downloads`: a model comes from the hub, by the queue of a running app, or
in this process."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from i2v.cli.exits import Exit, exit_for
from i2v.cli.interrupts import Interrupts
from i2v.cli.joined import Joined, joined_app
from i2v.cli.terminal import StatusLine, bar, clock
from i2v.downloads.list import read_list
from i2v.downloads.service import Downloads
from i2v.downloads.space import free_bytes
from i2v.downloads.state import Download
from i2v.messages import Message, UserError, message
from i2v.settings.settings import Settings
from i2v.units import amount

LOOK_SECONDS = 0.5
LINE_SECONDS = 10.0  # between lines where nobody sees a bar
_MEGABYTE = 1e6


class Queue(Protocol):
    """What the command needs of a queue, here or in the app. Every method raises UserError."""

    def add(self, model: str) -> Download: ...
    def all(self) -> list[Download]: ...
    def pause(self, download_id: str) -> bool: ...
    def resume(self, download_id: str) -> bool: ...


def download(name: str, settings: Settings, *, as_json: bool, locale: str) -> Exit:
    """Fetch the model called `name` and show how it comes. Ctrl-C lays it down, and what has come stays; in an app it
    goes on. Raises UserError."""
    if not name:
        raise UserError("cli.models_name_missing", action="download")

    def say(text: Message) -> None:
        print(text.render(locale), file=sys.stderr, flush=True)

    with Interrupts(), _queue(settings) as (queue, app):
        one = queue.add(name)
        if one.state != "done":
            say(_needs(one, settings))
            if app is not None:
                say(message("downloads.in_app", address=app.address))
            if one.state == "paused":
                queue.resume(one.id)
            try:
                one = _follow(queue, one, as_json=as_json, locale=locale)
            except KeyboardInterrupt:
                if app is None:
                    queue.pause(one.id)
                say(message("downloads.interrupted" if app is None else "downloads.left_to_app"))
                return Exit.CANCELLED
        elif as_json:
            print(_json_line(one, locale), flush=True)
    if one.state == "failed" and one.error is not None:
        say(one.error)
        return exit_for(one.error, Exit.FAILED)
    say(message("downloads.finished", model=one.title))
    return Exit.DONE


def downloads(settings: Settings, *, as_json: bool, locale: str) -> Exit:
    """Print the models that are on their way: those of a running app, else those that were left. Raises UserError."""
    app = joined_app(settings)
    found = read_list(settings.models_dir) if app is None else InApp(app).all()
    if as_json:
        print(json.dumps([one.told(locale) for one in found], indent=2, ensure_ascii=False))
    else:
        print("\n".join(_row(one, locale) for one in found) or message("downloads.none").render(locale))
    return Exit.DONE


class InApp:
    """The queue of an app, by its endpoints."""

    def __init__(self, app: Joined) -> None:
        self._app = app

    def add(self, model: str) -> Download:
        return _read(self._app.ask("/download", model))

    def all(self) -> list[Download]:
        return [_read(one) for one in self._app.ask("/downloads")]

    def pause(self, download_id: str) -> bool:
        return self._app.ask("/pause_download", download_id)

    def resume(self, download_id: str) -> bool:
        return self._app.ask("/resume_download", download_id)

    def cancel(self, download_id: str) -> bool:
        return self._app.ask("/cancel_download", download_id)


def _read(values: dict[str, Any]) -> Download:
    try:
        return Download.from_json(values)
    except (LookupError, TypeError, ValueError) as error:  # an app of another version
        raise UserError("downloads.not_understood") from error


@contextmanager
def _queue(settings: Settings) -> Iterator[tuple[Queue, Joined | None]]:
    """The queue, and the app whose it is."""
    app = joined_app(settings)
    if app is not None:
        yield InApp(app), app
        return
    here = Downloads(settings, go_on=False)
    try:
        yield here, None
    finally:
        here.close()


def _follow(queue: Queue, one: Download, *, as_json: bool, locale: str) -> Download:
    """Show the download until it has ended, or somebody has laid it down or cancelled it. How it stands then."""
    line = StatusLine(sys.stderr) if sys.stderr.isatty() and not as_json else None
    last_note, last_line = None, 0.0
    try:
        while True:
            found = next((each for each in queue.all() if each.id == one.id), None)
            if found is None:
                raise UserError("downloads.unknown", id=one.id)
            one = found
            if one.note is not None and one.note != last_note and not as_json:
                last_note = one.note
                if line is not None:
                    line.clear()
                print(one.note.render(locale), file=sys.stderr, flush=True)
            if one.state in ("done", "failed"):
                return one
            if one.state == "paused":
                raise UserError("downloads.paused_meanwhile", model=one.title)
            if line is not None:
                line.show(f"{bar(one.done_bytes, one.total_bytes)}  {_figures(one, locale)}")
            elif time.monotonic() - last_line >= LINE_SECONDS and not as_json:
                last_line = time.monotonic()
                print(_row(one, locale), file=sys.stderr, flush=True)
            if as_json:
                print(_json_line(one, locale), flush=True)
            time.sleep(LOOK_SECONDS)
    finally:
        if line is not None:
            line.clear()
        if as_json and one.state in ("done", "failed"):
            print(_json_line(one, locale), flush=True)


def _needs(one: Download, settings: Settings) -> Message:
    """What is to come, against what is free."""
    needed, free = one.missing_bytes, free_bytes(settings.models_dir)
    told = {"model": one.title, "folder": str(settings.models_dir.absolute()), "needed": amount(needed, up=True)}
    if not one.total_bytes or free is None:
        return message("downloads.asks_hub", model=one.title, folder=told["folder"])
    return message("downloads.needs_too_much" if free < needed else "downloads.needs", free=amount(free), **told)


def _figures(one: Download, locale: str) -> str:
    told = {"done": amount(one.done_bytes), "total": amount(one.total_bytes, up=True)}
    if one.bytes_per_second is None:
        return message("downloads.row", **told).render(locale)
    rate = f"{one.bytes_per_second / _MEGABYTE:.1f}"
    if one.seconds_left is None:
        return message("downloads.row_rate", rate=rate, **told).render(locale)
    return message("downloads.row_left", rate=rate, left=clock(one.seconds_left), **told).render(locale)


def _row(one: Download, locale: str) -> str:
    state = message(f"downloads.state_{one.state}").render(locale)
    error = f"\n  {one.error.render(locale)}" if one.error else ""
    return f"{one.model}  {state}  {_figures(one, locale)}{error}"


def _json_line(one: Download, locale: str) -> str:
    return json.dumps(one.told(locale), ensure_ascii=False, allow_nan=False)
