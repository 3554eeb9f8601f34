"""A LoRA from the hub, by the name of its repository: which file it is, and then the file, into the folder of LoRAs."""

from __future__ import annotations

import hashlib
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from i2v.messages import UserError
from i2v.models.adapters import FOLDER, list_adapters
from i2v.models.ask_hubs import Note
from i2v.models.download import fetch_one
from i2v.models.fetch.contents import digest_if_right
from i2v.models.fetch.fetch import Progress
from i2v.models.fetch.published import Published, PublishedFile
from i2v.models.lora_intake import MOST_BYTES, take_in
from i2v.models.verify import SAFETENSORS
from i2v.units import GIB

FETCHING = ".fetching"  # the folder for what is on its way; hidden, so that it is not listed
KEPT_DAYS = 7  # for what was broken off: until then it is gone on with
MOST_NAMED = 12  # files of a repository in a message
_SECONDS_PER_DAY = 24 * 3600
_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?:/(?P<file>[^\0]+))?", re.ASCII)
_ON_SITE = re.compile(r"(?P<kind>blob|resolve|tree)/[^/]+(?:/|$)")  # in an address: branch or tag comes before the path
_OF_THE_DISK = ("models.not_writable", "models.disk_too_small")
_SAY_NOTHING = ("pytorch_lora_weights", "adapter_model", "lora", "model")
"""What libraries call every LoRA's file: the repository's name says more."""


@dataclass(frozen=True)
class HubName:
    """`file`: one of the repository; None where there is to be but one, in it or in its `folder`."""

    repo: str
    file: str | None = None
    folder: str = ""


def hub_name(typed: str) -> HubName:
    """What `typed` names: owner/name, owner/name/file.safetensors, or the address of either, or of a folder, on the
    hub's site. Raises UserError."""
    text = typed.strip()
    if "://" in text:
        text = unquote(urlsplit(text).path)
    found = _ID.fullmatch(text.strip("/"))
    path = (found and found["file"]) or ""
    on_site = _ON_SITE.match(path)
    inside = path[on_site.end() :] if on_site else path
    is_folder = on_site is not None and on_site["kind"] == "tree"
    if found is None or ".." in inside.split("/") or not (is_folder or not inside or inside.endswith(SAFETENSORS)):
        raise UserError("models.adapter_hub_name", value=typed.strip()[:200])
    return HubName(found["repo"], folder=inside) if is_folder else HubName(found["repo"], inside or None)


def fetch_lora(
    typed: str,
    models_dir: Path,
    *,
    endpoint: str | None,
    offline: bool,
    on_progress: Progress = lambda *_: None,
    on_note: Note = lambda _note: None,
) -> str:
    """Fetch the LoRA that `typed` names, and return what it is called in the folder of LoRAs. One that is there already
    is not fetched again. What is broken off, also by what `on_progress` raises, goes on the next time. Raises
    UserError."""
    name = hub_name(typed)
    place = models_dir / FOLDER
    if offline:
        raise UserError("models.offline", model=name.repo, folder=str(place))
    clear_old(models_dir)
    there: list[str] = []

    def choose(published: Published) -> PublishedFile | None:
        file = _one_of(published, name)
        if (found := _on_shelf(file, models_dir)) is not None:
            there.append(found)
            return None
        if file.size_bytes > MOST_BYTES:
            gib = round(file.size_bytes / GIB, 1)
            raise UserError("models.adapter_too_large", file=file.name, gib=gib, limit=MOST_BYTES // GIB)
        return file

    folder = place / FETCHING / _folder_name(name)
    fetched = fetch_one(
        name.repo, choose, folder, goes_to=place, models_dir=models_dir, endpoint=endpoint,
        on_progress=on_progress, on_note=on_note, on_wait=lambda: on_progress(0, 0),
    )  # fmt: skip
    if fetched is None:
        return there[0]
    try:
        called = take_in(fetched, _shelf_name(fetched, name), models_dir, move=True)
    except UserError as error:
        if error.message.id not in _OF_THE_DISK:  # no other try would make it a LoRA
            _discard(folder)
        raise
    _discard(folder)
    return called


def clear_old(models_dir: Path) -> None:
    """Remove what is left of LoRAs whose fetching was broken off and that nobody has asked for again in KEPT_DAYS."""
    oldest = time.time() - KEPT_DAYS * _SECONDS_PER_DAY
    with suppress(OSError):
        for folder in (models_dir / FOLDER / FETCHING).iterdir():
            if max(_times(folder), default=0.0) < oldest:
                _discard(folder)


def _times(folder: Path) -> Iterator[float]:
    for path in (folder, *folder.rglob("*")):
        with suppress(OSError):
            yield path.stat().st_mtime


def _discard(folder: Path) -> None:
    """Remove the folder of one LoRA on its way, and the one for all where that was the last."""
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        folder.parent.rmdir()


def _folder_name(name: HubName) -> str:
    """Each file has a folder of its own: several of a repository may be on their way at once."""
    mark = hashlib.sha256((name.file or name.folder).encode()).hexdigest()[:8]
    return f"{name.repo.replace('/', '--')}--{mark}"


def _shelf_name(file: Path, name: HubName) -> str:
    return f"{name.repo.partition('/')[2]}{SAFETENSORS}" if file.stem in _SAY_NOTHING else file.name


def _one_of(published: Published, name: HubName) -> PublishedFile:
    folder = f"{name.folder}/" if name.folder else ""
    there = (one for one in published.files if one.name.startswith(folder))
    files = {one.name: one for one in there if one.name.endswith(SAFETENSORS)}
    if name.file in files:
        return files[str(name.file)]
    if name.file is None and len(files) == 1:
        return next(iter(files.values()))
    known = ", ".join(sorted(files)[:MOST_NAMED])
    if not files:
        raise UserError("models.adapter_hub_none", repo=name.repo)
    if name.file is not None:
        raise UserError("models.adapter_hub_no_file", repo=name.repo, file=name.file, known=known)
    raise UserError("models.adapter_hub_many", repo=name.repo, count=len(files), known=known)


def _on_shelf(file: PublishedFile, models_dir: Path) -> str | None:
    """What the published `file` is called in the folder of LoRAs, where it is there already. One of other bytes is read
    only where it has as many."""
    for other in list_adapters(models_dir):
        if file.digest and other.size_bytes == file.size_bytes and other.problem is None:
            with suppress(OSError):
                if digest_if_right(other.path, file) is not None:
                    return other.name
    return None
