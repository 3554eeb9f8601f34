"""What comes over the wire, looked at before Gradio sees it: how large it is, and which files it names. Every refusal,
of whichever layer, gets its line in the application's log, with the address that it went to.

Gradio checks the files that a request names where a component takes them, and fetches one that is named by its address
in the network. Here they are checked for every route alike, and nothing is fetched for anybody.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from i2v.messages import message
from i2v.settings.values import shown
from i2v.ui.gate.access import ASGI, LOGIN, Scope, client_of, refuse

log = logging.getLogger(__name__)

MOST_BYTES = 4 * 2**20  # of a request that is no upload: its values are a prompt and some numbers
# Who is still sending loses the answer where the line is closed on it, so the rest is taken and dropped first.
DROPPED_BYTES = 64 * 2**20
DROPPED_SECONDS = 10.0
LOGGED_A_MINUTE = 200  # refusals of one client; a page left open from before a restart is refused at every tick
CLIENTS_KEPT = 256
LONGEST_PATH = 300  # characters
_UPLOAD = re.compile(r"/+gradio_api/+upload/*")
# A scheme has two letters at least: "C:" is a disk.
_ADDRESS = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]+:|//|\\\\)")


class Intake:
    """ASGI layer: 413 for a body that is too large, 400 for one that names a file which nobody has uploaded. `uploads`
    gives the folder of uploads. Uploads themselves are counted by Gradio, as they come."""

    def __init__(self, app: ASGI, uploads: Callable[[], str], locale: str) -> None:
        self.app = app
        self.uploads = uploads
        self.locale = locale
        self._noted = RefusalLog()

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        incoming = _Incoming(scope, receive)

        async def heard(answer: Scope) -> None:
            if answer["type"] == "http.response.start" and answer["status"] >= 400:
                self._noted.refusal(client_of(scope), answer["status"], scope["method"], scope["path"])
                await incoming.drop_rest()
            await send(answer)

        if scope["method"] in ("GET", "HEAD", "OPTIONS") or is_upload(scope):
            await self.app(scope, incoming.receive, heard)
            return
        body = await incoming.read(MOST_BYTES)
        if body is None:
            told = message("ui.body_too_large", limit=MOST_BYTES // 2**20)
            await refuse(heard, 413, _answer(told.render(self.locale), told.id), (b"connection", b"close"))
            return
        # A body that is no JSON is refused: another parser behind this one might read it, and then its files would
        # not have been checked.
        if body and scope["path"] not in LOGIN:
            try:
                named = self._named_wrongly(body)
                hidden = next((name for name in map(os.path.basename, named_files(body)) if name.startswith(".")), None)
            except ValueError:
                await refuse(heard, 400, b'{"detail":"Not JSON"}')
                return
            if named is not None:
                log.warning("Refused: %s named the file %r, which is no upload", client_of(scope), named[:500])
                told = message("ui.bad_picture_upload")
                await refuse(heard, 400, _answer(told.render(self.locale), told.id))
                return
            # Gradio refuses these in words about its own settings, where uploads lie below the app's folder.
            if hidden is not None:
                told = message("ui.hidden_name", name=shown(hidden))
                await refuse(heard, 400, _answer(told.render(self.locale), told.id))
                return
        await self.app(scope, _again(body, incoming.receive), heard)

    def _named_wrongly(self, body: bytes) -> str | None:
        """A file that the request names and nobody has uploaded; None where there is none. Raises ValueError."""
        folder = Path(self.uploads()).resolve()
        return next((path for path in named_files(body) if not _is_below(path, folder)), None)


def is_upload(scope: Scope) -> bool:
    """Whether the request brings files. Its path is matched as Gradio's route matches it, or more widely."""
    return _UPLOAD.fullmatch(scope["path"]) is not None


def named_files(body: bytes) -> list[str]:
    """The files that a JSON text names, as Gradio writes them: the `path` of any object in it, each where it has more
    than one. Raises ValueError for what is no JSON."""
    found: list[str] = []

    def look(pairs: list[tuple[str, Any]]) -> None:
        found.extend(value for name, value in pairs if name == "path" and isinstance(value, str))

    try:
        json.loads(body, object_pairs_hook=look)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return found


def _is_below(path: str, folder: Path) -> bool:
    if _ADDRESS.match(path):
        return False
    try:
        return Path(path).resolve().is_relative_to(folder)
    except (ValueError, OSError):  # a zero byte, a name too long, a loop of links
        return False


class _Incoming:
    """A request's body as it comes."""

    def __init__(self, scope: Scope, receive: Any) -> None:
        announced = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        self._announced = int(announced) if announced.isdigit() else 0
        self._receive = receive
        self._more = scope["method"] not in ("GET", "HEAD", "OPTIONS")

    async def receive(self) -> Scope:
        """What comes next, as ASGI gives it."""
        event = await self._receive()
        self._more = event["type"] == "http.request" and event.get("more_body", False)
        return event

    async def read(self, most_bytes: int) -> bytes | None:
        """The whole body; None where it is too large. What is announced as too large is not waited for."""
        if self._announced > most_bytes:
            return None
        parts, size = [], 0
        while self._more:
            parts.append((await self.receive()).get("body", b""))
            size += len(parts[-1])
            if size > most_bytes:
                return None
        return b"".join(parts)

    async def drop_rest(self) -> None:
        """Take what is still coming and keep none of it, as long as that is little and comes soon."""
        if self._announced > DROPPED_BYTES:
            return
        size = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DROPPED_SECONDS):
                while self._more and size <= DROPPED_BYTES:
                    size += len((await self.receive()).get("body", b""))


def _again(body: bytes, receive: Any) -> Any:
    """A `receive` that gives a body that was read already, and then what else comes."""
    first = [{"type": "http.request", "body": body, "more_body": False}]

    async def given() -> Scope:
        return first.pop() if first else await receive()

    return given


def _answer(told: str, title: str) -> bytes:
    """As Gradio's page and its clients read a refusal."""
    return json.dumps({"detail": told, "error": told, "title": title}).encode()


class RefusalLog:
    """The log's lines about refusals: of each client every kind once in a minute, and so many kinds. `clock` counts
    seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._minutes: OrderedDict[str, tuple[int, set[str]]] = OrderedDict()  # by client: the minute, and its lines

    def refusal(self, client: str, status: int, method: str, path: str) -> None:
        """A request was answered with `status`. The query is left out: logins may stand in it."""
        minute = int(self._clock() // 60)
        earlier, lines = self._minutes.pop(client, (minute, set()))
        lines = lines if earlier == minute else set()
        self._minutes[client] = (minute, lines)
        while len(self._minutes) > CLIENTS_KEPT:
            self._minutes.popitem(last=False)
        line = f"Answered {status}: {client}, {method} {path[:LONGEST_PATH]!r}"
        if line in lines or len(lines) >= LOGGED_A_MINUTE:
            return
        lines.add(line)
        log.warning("%s", line)
        if len(lines) == LOGGED_A_MINUTE:
            log.warning("Further refusals of %s in this minute are left out", client)
