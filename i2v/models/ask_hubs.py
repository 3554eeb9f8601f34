"""What is published of a model, from the first hub that tells: each way's hub is asked in turn, and nobody has to wait
for one who wants to leave."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from queue import Empty, SimpleQueue

from i2v.families.spec import FamilySpec, PartsFrom
from i2v.messages import Message, message
from i2v.models.choose_files import choose_files
from i2v.models.fetch.fetch import FetchFailed
from i2v.models.fetch.published import Origin, Published, PublishedFile
from i2v.models.fetch.routes import Route, look_up_by
from i2v.models.fetch.troubles import Trouble, trouble_of

Note = Callable[[Message], None]
Wait = Callable[[], None]
"""Called several times a second while nothing else is told; what it raises ends the waiting."""

_MOST_SECONDS_TO_WAIT = 60.0  # for a hub that asks for patience before it says what there is
_SECONDS_BETWEEN_LOOKS = 0.2


def published_of(hub_id: str, spec: FamilySpec, routes: Sequence[Route], on_note: Note, on_wait: Wait) -> Published:
    """The files to fetch of a model, of those that are published now. Raises FetchFailed and what `on_wait` raises."""
    if spec.in_parts and hub_id == spec.hub_id:
        return _put_together(hub_id, spec, routes, on_note, on_wait)
    published = look_up(hub_id, routes, on_note, on_wait)
    return published.only(choose_files(published.names, spec))


def look_up(
    hub_id: str, routes: Sequence[Route], on_note: Note = lambda _note: None, on_wait: Wait = lambda: None
) -> Published:
    """Everything that is published of a repository. ModelScope is asked last, whichever route worked last time: what
    the hub itself says of its files counts where it can be reached. Raises FetchFailed and what `on_wait` raises."""
    said: list[tuple[Route, Trouble]] = []
    asked: set[str] = set()
    for route in sorted(routes, key=lambda route: route.of_modelscope):
        if route.endpoint in asked:
            continue
        asked.add(route.endpoint)
        try:
            return _patiently(hub_id, route, on_note, on_wait)
        except _Refused as refused:
            said.append((route, refused.trouble))
            if refused.trouble.final:
                raise FetchFailed(said) from refused.__cause__
    raise FetchFailed(said[:1])


def _put_together(hub_id: str, spec: FamilySpec, routes: Sequence[Route], on_note: Note, on_wait: Wait) -> Published:
    """The files of a model whose folders are in several repositories, as if they were in one."""
    files: list[PublishedFile] = []
    revisions = []
    for part in spec.in_parts:
        published = look_up(part.hub_id, routes, on_note, on_wait)
        revisions.append(published.revision)
        files += _files_of(part, published, spec)
    return Published(hub_id, revisions[0], tuple(files), routes[0].endpoint)


def _files_of(part: PartsFrom, published: Published, spec: FamilySpec) -> list[PublishedFile]:
    """What a repository has of a model, under the names that it will have in the model's folder."""
    if part.at_top:
        here = {f"{part.components[0]}/{file.name}": file for file in published.files if "/" not in file.name}
    else:
        here = {file.name: file for file in published.files if file.name.partition("/")[0] in part.components}
    return [
        replace(here[name], name=name, origin=Origin(part.hub_id, published.revision, here[name].name))
        for name in choose_files(here, spec)
        if name in here and "/" in name
    ]


class _Refused(Exception):
    """What came of asking a hub, in words of ours."""

    def __init__(self, trouble: Trouble) -> None:
        self.trouble = trouble
        super().__init__(trouble.kind)


def _patiently(hub_id: str, route: Route, on_note: Note, on_wait: Wait) -> Published:
    """What the route's hub publishes, asked again once where it says when. Raises _Refused and what `on_wait`
    raises."""
    try:
        return _asked(hub_id, route, on_wait)
    except _Refused as refused:
        trouble = refused.trouble
        if trouble.kind != "busy" or not 0 < trouble.seconds <= _MOST_SECONDS_TO_WAIT:
            raise
    on_note(message("models.fetch_waits", host=trouble.host, seconds=round(trouble.seconds)))
    until = time.monotonic() + trouble.seconds
    while (left := until - time.monotonic()) > 0:
        on_wait()
        time.sleep(min(left, _SECONDS_BETWEEN_LOOKS))
    return _asked(hub_id, route, on_wait)


def _asked(hub_id: str, route: Route, on_wait: Wait) -> Published:
    """What the route's hub publishes. Where `on_wait` ends the waiting, the request goes on unheard until its own time
    is over. Raises as `_patiently`."""
    answers: SimpleQueue[Published | Exception] = SimpleQueue()

    def ask() -> None:
        try:
            answers.put(look_up_by(route, hub_id))
        except Exception as error:
            answers.put(error)

    threading.Thread(target=ask, name="what is published", daemon=True).start()
    while True:
        try:
            answer = answers.get(timeout=_SECONDS_BETWEEN_LOOKS)
        except Empty:
            on_wait()
            continue
        if isinstance(answer, Exception):
            raise _Refused(trouble_of(answer, route.endpoint)) from answer
        return answer
