"""Getting a model from the hub: what is needed, whether it fits on the disk, and then the files.

Only JSON, tokenizer texts and safetensors are fetched, and of each weight file the half-precision one where the
repository has it: half the download, and what every GPU preset computes in.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    XetDownloadError,
)
from tqdm import tqdm

from i2v.families import SPECS
from i2v.families.spec import FamilySpec
from i2v.messages import UserError
from i2v.models.entry import ModelEntry
from i2v.models.verify import INDEX, INDEXES, SAFETENSORS, check_safetensors, verify_folder
from i2v.setup.surroundings import SET_ASIDE, proxy_for_downloads
from i2v.units import GIB

Progress = Callable[[int, int], None]
"""Called with (done_bytes, total_bytes), from several threads but one at a time; what it raises ends the download."""

_SPARE_BYTES = GIB // 4  # left free beside the model, for the job's own files
_SHARD = re.compile(r"(?P<stem>.+?)(?P<fp16>\.fp16)?(?P<part>-\d+-of-\d+)?\.safetensors$")
_MARKED = {mark.file for spec in SPECS.values() for mark in spec.marks}
_HUB_ERRORS = (
    HfHubHTTPError,
    EntryNotFoundError,
    FileMetadataError,
    XetDownloadError,
    httpx2.HTTPError,
    ConnectionError,
)


def ensure_present(
    entry: ModelEntry, *, models_dir: Path, endpoint: str | None, offline: bool, on_progress: Progress
) -> Path:
    """The folder of `entry`'s checkpoint, downloaded into `models_dir` first where it is not there yet.

    An interrupted download goes on where it stopped. Raises UserError when the hub may not or cannot be reached, has
    no such repository, or the disk is too small for what is missing.
    """
    folder = entry.folder or models_dir / entry.name.replace("/", "--")
    if entry.present or entry.hub_id is None:
        return folder
    spec, hub_id = SPECS[entry.family], entry.hub_id
    missing: dict[str, int] = {}
    if offline:
        raise UserError("models.offline", model=hub_id, folder=str(folder))
    try:
        revision, sizes = _remote_files(hub_id, endpoint)
        wanted = {name: sizes[name] for name in choose_files(sizes, spec)}
        missing = _missing(folder, wanted)
        _check_disk(folder, hub_id, sum(missing.values()))
        total = sum(wanted.values())
        snapshot_download(
            hub_id,
            revision=revision,
            local_dir=folder,
            allow_patterns=list(wanted),
            endpoint=endpoint,
            tqdm_class=_bar(on_progress, already=total - sum(missing.values()), total=total),
        )
    except _HUB_ERRORS as error:
        raise _hub_error(error, hub_id, endpoint, folder) from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise _disk_full(folder, hub_id, sum(missing.values())) from error
        if error.errno is None:  # not from the disk: the library's own complaint about what it received
            raise _hub_error(error, hub_id, endpoint, folder) from error
        raise UserError("models.not_writable", folder=str(folder), reason=error.strerror or str(error)) from error
    verify_folder(folder, spec)
    on_progress(total, total)
    return folder


def choose_files(names: Iterable[str], spec: FamilySpec) -> list[str]:
    """Of a repository's file names those to fetch for `spec`, fp16 in place of full weights where there is both."""
    names = set(names)
    chosen = {*INDEXES} & names
    for component, files in spec.every_component.items():
        inside = {name for name in names if name.rpartition("/")[0] == component}
        chosen |= {name for name in inside if name.endswith((".json", ".txt", ".model"))}
        for file in files:
            if file.endswith(SAFETENSORS):
                chosen |= _one_variant(inside, f"{component}/{file.removesuffix(SAFETENSORS)}")
    return sorted(chosen)


def fetch_index(hub_id: str, folder: Path, *, endpoint: str | None, offline: bool) -> None:
    """Put the repository's index, which names its class, into `folder`, and before it the files in which families of
    one class differ: where the index is, they are."""
    if offline:
        raise UserError("models.offline", model=hub_id, folder=str(folder))
    try:
        revision, sizes = _remote_files(hub_id, endpoint)
        index = next((name for name in INDEXES if name in sizes), None)
        if index is None:
            raise UserError("models.no_index", folder=hub_id, file=INDEX)
        for name in (*sorted(_MARKED & sizes.keys() - {index}), index):
            hf_hub_download(hub_id, name, revision=revision, local_dir=folder, endpoint=endpoint)
    except _HUB_ERRORS as error:
        raise _hub_error(error, hub_id, endpoint, folder) from error
    except OSError as error:
        raise UserError("models.not_writable", folder=str(folder), reason=error.strerror or str(error)) from error


def _one_variant(inside: set[str], stem: str) -> set[str]:
    variants: dict[bool, set[str]] = {True: set(), False: set()}
    for name in inside:
        match = _SHARD.fullmatch(name)
        if match and match["stem"] == stem:
            variants[match["fp16"] is not None].add(name)
    return variants[True] or variants[False]


def _remote_files(hub_id: str, endpoint: str | None) -> tuple[str, dict[str, int]]:
    """The newest revision and every file's size in bytes."""
    info = HfApi(endpoint=endpoint).model_info(hub_id, files_metadata=True)
    return str(info.sha), {file.rfilename: file.size or 0 for file in info.siblings or ()}


def _missing(folder: Path, wanted: Mapping[str, int]) -> dict[str, int]:
    """What is still to fetch. A file that is there but cut off is removed, since the hub's library would keep it."""
    missing = {}
    for name, size in wanted.items():
        file = folder / name
        if file.is_file():
            if file.stat().st_size == size and not _broken(file):
                continue
            file.unlink()
        missing[name] = size
    return missing


def _broken(file: Path) -> bool:
    if file.suffix != SAFETENSORS:
        return False
    try:
        check_safetensors(file)
    except UserError:
        return True
    return False


def _check_disk(folder: Path, hub_id: str, needed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(folder).free < needed + _SPARE_BYTES:
        raise _disk_full(folder, hub_id, needed)


def _disk_full(folder: Path, hub_id: str, needed: int) -> UserError:
    return UserError(
        "models.disk_too_small",
        model=hub_id,
        folder=str(folder),
        needed_gib=round((needed + _SPARE_BYTES) / GIB, 1),
        free_gib=round(shutil.disk_usage(folder).free / GIB, 1),
    )


def _hub_error(error: BaseException, hub_id: str, endpoint: str | None, folder: Path) -> UserError:
    if isinstance(error, LocalEntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__  # "not here either": why it could not be fetched is what matters
    if isinstance(error, OfflineModeIsEnabled):
        return UserError("models.offline", model=hub_id, folder=str(folder))
    if isinstance(error, GatedRepoError):
        return UserError("models.gated", model=hub_id)
    if isinstance(error, RepositoryNotFoundError):
        return UserError("models.not_on_hub", model=hub_id)
    hub = endpoint or HfApi().endpoint
    known = {"model": hub_id, "hub": hub, "folder": str(folder), "reason": type(error).__name__}
    if aside := os.environ.get(SET_ASIDE):
        return UserError("models.unreachable_aside", variables=aside, **known)
    if proxy := proxy_for_downloads(os.environ, urlsplit(hub).hostname or ""):
        return UserError("models.unreachable_proxy", variable=proxy[0], proxy=proxy[1], **known)
    return UserError("models.unreachable", **known)


def _bar(on_progress: Progress, *, already: int, total: int) -> type[tqdm]:
    """A progress bar class that draws nothing and reports bytes. The hub's library makes several bars of it, two of
    them for the same bytes (received, written), so the furthest one counts."""
    lock = threading.Lock()
    furthest = already

    class Bar(tqdm):
        monitor_interval = 0  # no monitor thread for a bar nobody sees

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.counts_bytes = kwargs.get("unit") == "B"
            super().__init__(*args, **kwargs)

        def display(self, msg: str | None = None, pos: int | None = None) -> None:
            pass

        def update(self, n: float | None = 1) -> bool | None:
            nonlocal furthest
            shown = super().update(n)
            if self.counts_bytes:
                with lock:
                    furthest = max(furthest, min(total, already + int(self.n)))
                    on_progress(furthest, total)
            return shown

    return Bar
