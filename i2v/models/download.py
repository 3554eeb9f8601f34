"""Getting a model from the hub: what is needed, whether it fits on the disk, and then the files."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from i2v.families import SPECS
from i2v.messages import Message, UserError, message
from i2v.models.ask_hubs import Note, Wait, look_up, published_of
from i2v.models.entry import ModelEntry
from i2v.models.fetch.fetch import SPARE_BYTES, FetchFailed, Progress, fetch, missing_bytes
from i2v.models.fetch.published import Published, PublishedFile
from i2v.models.fetch.routes import Route, remember, remembered_first, routes_for
from i2v.models.fetch.troubles import Trouble, trouble_of
from i2v.models.from_cache import link_to_cache
from i2v.models.verify import INDEX, INDEXES, verify_folder
from i2v.setup.surroundings import SET_ASIDE, proxy_for_downloads
from i2v.units import GIB
from i2v.whole_file import write_whole

_MARKED = {mark.file for spec in SPECS.values() for mark in spec.marks}


def ensure_present(
    entry: ModelEntry,
    *,
    models_dir: Path,
    endpoint: str | None,
    offline: bool,
    on_progress: Progress,
    on_note: Note = lambda _note: None,
    on_wait: Wait = lambda: None,
) -> Path:
    """The folder of `entry`'s checkpoint, downloaded into `models_dir` first where it is not there yet.

    An interrupted download goes on where it stopped. `on_note` is told what a person may want to know meanwhile: that
    another way is tried, that the hub asks to wait. `on_wait` is called while the hub is asked what there is, before
    there is any progress, and may end that by what it raises. Raises UserError when the hub may not or cannot be
    reached, has no such repository, or the disk is too small for what is missing.
    """
    folder = entry.folder or models_dir / entry.name.replace("/", "--")
    if entry.present or entry.hub_id is None:
        return folder
    if entry.problem is not None and entry.problem.id == "models.link_outside":  # nothing is written by way of it
        raise UserError(entry.problem.id, **entry.problem.params)
    spec, hub_id = SPECS[entry.family], entry.hub_id
    if offline:
        raise UserError("models.offline", model=hub_id, folder=str(folder))
    routes = remembered_first(routes_for(endpoint), models_dir)
    try:
        published = published_of(hub_id, spec, routes, on_note, on_wait)
        folder.mkdir(parents=True, exist_ok=True)
        link_to_cache(published, folder)
        missing = missing_bytes(published, folder)
        if shutil.disk_usage(folder).free < missing + SPARE_BYTES:
            raise _disk_full(folder, hub_id, missing)
        route = fetch(published, folder, routes, on_progress=on_progress, on_note=on_note)
        if spec.in_parts and not any((folder / name).is_file() for name in INDEXES):
            write_whole(folder / INDEX, json.dumps(index_of_parts(spec.class_name, hub_id), indent=1))
    except FetchFailed as failed:
        raise _failed(failed, hub_id, folder) from failed
    except OSError as error:
        raise _failed(FetchFailed([(routes[0], trouble_of(error, routes[0].endpoint))]), hub_id, folder) from error
    if route is not None:
        remember(route, models_dir)
    verify_folder(folder, spec)
    on_progress(total := sum(file.size_bytes for file in published.files), total)
    return folder


def fetch_one(
    hub_id: str,
    choose: Callable[[Published], PublishedFile | None],
    folder: Path,
    *,
    goes_to: Path,
    models_dir: Path,
    endpoint: str | None,
    on_progress: Progress,
    on_note: Note = lambda _note: None,
    on_wait: Wait = lambda: None,
) -> Path | None:
    """Bring one file of a repository into `folder`: that which `choose` takes of what is published; None where it takes
    none. An interrupted download goes on where it stopped. `goes_to` is the folder that a person is told. Raises
    UserError as `ensure_present` does, and what `choose`, `on_progress` and `on_wait` raise."""
    routes = remembered_first(routes_for(endpoint), models_dir)
    try:
        published = look_up(hub_id, routes, on_note, on_wait)
        file = choose(published)
        if file is None:
            return None
        published = published.only([file.name])
        folder.mkdir(parents=True, exist_ok=True)
        missing = missing_bytes(published, folder)
        if shutil.disk_usage(folder).free < missing + SPARE_BYTES:
            raise _disk_full(goes_to, hub_id, missing)
        route = fetch(published, folder, routes, on_progress=on_progress, on_note=on_note)
    except FetchFailed as failed:
        raise _failed(failed, hub_id, goes_to) from failed
    except OSError as error:
        raise _failed(FetchFailed([(routes[0], trouble_of(error, routes[0].endpoint))]), hub_id, goes_to) from error
    if route is not None:
        remember(route, models_dir)
    return folder / file.name


def index_of_parts(class_name: str, hub_id: str) -> dict[str, str]:
    """What the index of a model says that was put together of several repositories, in the words of diffusers."""
    return {"_class_name": class_name, "_name_or_path": hub_id}


def fetch_index(
    hub_id: str,
    folder: Path,
    *,
    endpoint: str | None,
    offline: bool,
    on_progress: Progress = lambda _done, _total: None,
    on_wait: Wait = lambda: None,
) -> None:
    """Put the repository's index, which names its class, into `folder`, and before it the files in which families of
    one class differ: where the index is, they are. Raises UserError, and what `on_progress` and `on_wait` raise."""
    if offline:
        raise UserError("models.offline", model=hub_id, folder=str(folder))
    routes = routes_for(endpoint)
    try:
        published = look_up(hub_id, routes, on_wait=on_wait)
        index = next((name for name in INDEXES if name in published.names), None)
        if index is None:
            raise UserError("models.no_index", folder=hub_id, file=INDEX)
        folder.mkdir(parents=True, exist_ok=True)
        for names in (_MARKED - {index}, {index}):
            fetch(published.only(names), folder, routes, on_progress=on_progress)
    except FetchFailed as failed:
        raise _failed(failed, hub_id, folder) from failed
    except OSError as error:
        raise _failed(FetchFailed([(routes[0], trouble_of(error, routes[0].endpoint))]), hub_id, folder) from error


def _disk_full(folder: Path, hub_id: str, needed: int) -> UserError:
    return UserError(
        "models.disk_too_small",
        model=hub_id,
        folder=str(folder),
        needed_gib=round((needed + SPARE_BYTES) / GIB, 1),
        free_gib=round(shutil.disk_usage(folder).free / GIB, 1),
    )


def _failed(failed: FetchFailed, hub_id: str, folder: Path) -> UserError:
    """What a person is told where no way brought the model."""
    route, trouble = failed.said[-1]
    known = {"model": hub_id, "folder": str(folder)}
    kinds = {each.kind for _, each in failed.said}
    if kinds == {"forbidden"} and trouble.status == 401:
        return UserError("models.token_refused", model=hub_id, hub=trouble.host)
    if trouble.kind == "gated" or kinds == {"forbidden"}:
        return UserError("models.gated", model=hub_id, page=f"{route.endpoint}/{hub_id}")
    if trouble.kind == "not_on_hub":
        return UserError("models.not_on_hub", model=hub_id)
    if trouble.kind == "offline":
        return UserError("models.offline", **known)
    if trouble.kind == "disk_full":
        return _disk_full(folder, hub_id, failed.short_bytes)
    if trouble.kind == "not_writable":
        return UserError("models.not_writable", folder=str(folder), reason=trouble.reason)
    if kinds == {"certificate"}:
        return UserError("models.untrusted", hub=trouble.host, reason=trouble.reason, **known)
    if kinds == {"clock"}:
        here = time.strftime("%Y-%m-%d %H:%M")
        return UserError("models.wrong_clock", hub=trouble.host, here=here, reason=trouble.reason, **known)
    if kinds <= {"unreachable", "server", "failed", "missing"} and len({one.endpoint for one, _ in failed.said}) == 1:
        return _unreachable(route.endpoint, trouble, known)
    return UserError("models.no_route", said=_said(failed.said).to_json(), **known)


def _unreachable(hub: str, trouble: Trouble, known: dict[str, str]) -> UserError:
    reason = f"{trouble.status}" if trouble.status else trouble.reason
    known = {**known, "hub": hub, "reason": reason}
    if aside := os.environ.get(SET_ASIDE):
        return UserError("models.unreachable_aside", variables=aside, **known)
    if proxy := proxy_for_downloads(os.environ, urlsplit(hub).hostname or ""):
        return UserError("models.unreachable_proxy", variable=proxy[0], proxy=proxy[1], **known)
    return UserError("models.unreachable", **known)


def _said(said: Sequence[tuple[Route, Trouble]]) -> Message:
    """What each way said, one sentence after the other; of each way the last."""
    last = dict(said)
    (route, trouble), *rest = last.items()
    name = message(f"models.route_{route.name}").to_json()
    if not rest:
        return message("models.fetch_said", route=name, said=trouble.message().to_json())
    more = _said(rest).to_json()
    return message("models.fetch_said_more", route=name, said=trouble.message().to_json(), more=more)
