"""Which models there are: the bundled ones, each family's own on the hub, the user's folders."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from i2v.families import SPECS
from i2v.families.spec import FamilySpec
from i2v.messages import Message, UserError, message
from i2v.models.download import fetch_index
from i2v.models.entry import ASSETS, ModelEntry
from i2v.models.hub_cache import HUB_FOLDER, cached, hub_id_of, newest_snapshot
from i2v.models.kinds import spec_of
from i2v.models.links import check_links
from i2v.models.not_models import named, refusal
from i2v.models.places import ModelPlace, Places, look_into, places_of
from i2v.models.verify import INDEX, index_of, read_class_name, verify_folder
from i2v.request import AUTO

if TYPE_CHECKING:
    from i2v.settings.settings import Settings

__all__ = ["ModelEntry", "find_model", "list_models", "unreadable_folders"]

_HUB_ID = re.compile(r"[A-Za-z0-9_-][\w.-]*/[A-Za-z0-9_-][\w.-]*")


def list_models(settings: Settings) -> list[ModelEntry]:
    """Every model a person can choose by name; `auto` is the first that is present."""
    places = look_into(places_of(settings))
    entries = [*_bundled(), *_hub_models(settings.models_dir, places)]
    for place in places:
        entries += _found_in(place, places, entries)
    return entries


def find_model(name: str, settings: Settings) -> ModelEntry:
    """The model called `name`: `auto`, a name in the catalogue however it is spelt, a checkpoint folder, or a hub id
    `owner/name`.

    Raises UserError when there is no such model, naming those there are, and when its folder cannot be used and no
    download would mend it. `auto` is the bundled model where none is present: its problem is told, nothing is
    downloaded in its place. A hub id of a repository never seen before is looked up on the hub. With
    `listed_models_only` the only folders are those in the catalogue and the settings' own.
    """
    entries = list_models(settings)
    if name == AUTO:
        name = next((entry for entry in entries if entry.present), entries[0]).name
    for entry in entries:
        if name in (entry.name, entry.hub_id):
            if entry.problem is not None and entry.hub_id is None:
                raise UserError(entry.problem.id, **entry.problem.params)
            return entry
    path = _expanded(name)
    anywhere = not settings.listed_models_only or name in (settings.model, str(_expanded(settings.model)))
    if anywhere and _exists(path):
        return _chosen_folder(path, look_into(places_of(settings)))
    if _HUB_ID.fullmatch(name):
        return _chosen_hub_id(name, settings)
    if anywhere and (path.is_absolute() or name.startswith(".")):
        raise UserError("models.no_folder", folder=name)
    if (like := _called_like(name, entries)) is not None:
        return like
    if (other := named(name, settings.models_dir)) is not None:
        raise other
    raise UserError("models.unknown", name=name, known=", ".join(entry.name for entry in entries))


def _called_like(name: str, entries: list[ModelEntry]) -> ModelEntry | None:
    """The one entry that is called `name` but for capitals and the marks between its words."""

    def plain(text: str) -> str:
        return "".join(letter for letter in text.casefold() if letter.isalnum())

    usable = [one for one in entries if one.problem is None or one.hub_id is not None]
    like = [one for one in usable if plain(one.name) == plain(name)]
    return like[0] if len(like) == 1 else None


def unreadable_folders(models_dir: Path) -> list[Path]:
    """What in `models_dir` is passed over because it may not be read: itself, or folders such as lost+found."""
    try:
        inside = sorted(models_dir.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError:
        return [models_dir]
    return [path for path in inside if os.path.isdir(path) and not os.access(path, os.R_OK | os.X_OK)]


def _bundled() -> Iterator[ModelEntry]:
    for spec in SPECS.values():
        if spec.comes_with_the_app:
            entry = _folder_entry(spec.name, ASSETS / spec.name, spec, {})
            yield entry if entry.present else replace(entry, problem=_bundled_problem(entry))


def _bundled_problem(entry: ModelEntry) -> Message:
    """Why the model that came with the app cannot be used, and how to get its files back."""
    reason = entry.problem or message("models.no_index", folder=str(entry.folder), file=INDEX)
    app = shlex.quote(str(ASSETS.parents[1]))
    return message("models.bundled", title=entry.title, reason=reason.to_json(), app=app)


def _hub_models(models_dir: Path, places: Places) -> Iterator[ModelEntry]:
    for spec in SPECS.values():
        if spec.hub_id is not None:
            name = spec.hub_id.split("/")[1]
            yield _hub_entry(name, models_dir / name, spec, spec.hub_id, places)


def _hub_entry(name: str, folder: Path, spec: FamilySpec, hub_id: str, places: Places) -> ModelEntry:
    """A model of the hub: in `folder`, or in the cache of the hub's own library, or of that name in a folder of another
    program, or still to be fetched."""
    entry = _folder_entry(name, folder, spec, places, hub_id=hub_id)
    if entry.present:
        return entry
    for kept in _kept(hub_id, places):
        if spec_of(kept) == spec and _problem(kept, spec, places) is None:
            return _folder_entry(name, kept, spec, places, hub_id=hub_id)
    return entry


def _kept(hub_id: str, places: Places) -> Iterator[Path]:
    """Where a repository of the hub may lie beside the models folder."""
    if (snapshot := cached(hub_id)) is not None:
        yield snapshot
    name, whole = hub_id.split("/")[1], hub_id.replace("/", "--")
    names = (name, name.replace(".", "___"), whole, f"{HUB_FOLDER}{whole}")  # the second as ModelScope keeps it
    for place, found in places.items():
        if place.kind == "folder":
            yield from (folder for top, folder in found if top.name in names)


def _found_in(place: ModelPlace, places: Places, known: Sequence[ModelEntry]) -> Iterator[ModelEntry]:
    """The models of a place that are not known yet. They are called by their folder; where that name is taken, by its
    path; and those of the hub's cache by their hub id: of these the whole ones alone, since libraries of other programs
    leave parts there."""
    names = {name for entry in known for name in (entry.name, entry.hub_id)}
    folders = {entry.folder for entry in known}
    for top, folder in places[place]:
        spec = spec_of(folder)
        name = hub_id_of(top) if place.kind == "hub" else top.name
        if spec is None or name is None or folder in folders:
            continue
        if place.kind == "folder" and (name in names or name == AUTO):
            name = str(top)
        fetched = name.replace("/", "--") in names  # into the models folder
        if name not in names and not fetched and (place.kind != "hub" or _problem(folder, spec, places) is None):
            names.add(name)
            yield _folder_entry(name, folder, spec, places)


def _folder_entry(
    name: str, folder: Path, spec: FamilySpec, places: Places, *, hub_id: str | None = None
) -> ModelEntry:
    """The entry for a folder that is there, or may be there later."""
    there = os.path.isdir(folder)
    problem = _problem(folder, spec, places) if there else None
    present = there and problem is None
    return ModelEntry(
        name=name,
        family=spec.name,
        title=spec.title if name in (spec.name, (spec.hub_id or "").split("/")[-1]) else f"{spec.title}: {name}",
        folder=folder,
        hub_id=hub_id,
        present=present,
        size_bytes=_folder_bytes(folder) if present else _download_bytes(spec, hub_id),
        problem=problem,
    )


def _chosen_folder(folder: Path, places: Places) -> ModelEntry:
    if (other := refusal(folder)) is not None:
        raise other
    folder = newest_snapshot(folder) or folder
    class_name = read_class_name(folder)
    spec = spec_of(folder)
    if spec is None:
        known = ", ".join(sorted(spec.title for spec in SPECS.values()))
        raise UserError("models.unknown_class", folder=str(folder), found=class_name, known=known)
    check_links(folder, (place.folder for place in places))
    verify_folder(folder, spec)
    return _folder_entry(str(folder), folder, spec, places)


def _chosen_hub_id(hub_id: str, settings: Settings) -> ModelEntry:
    folder = settings.models_dir / hub_id.replace("/", "--")
    places = look_into(places_of(settings))
    spec = next((spec for kept in _kept(hub_id, places) if (spec := spec_of(kept)) is not None), None)
    if spec is not None:
        return _hub_entry(hub_id, folder, spec, hub_id, places)
    if index_of(folder) is None:
        fetch_index(hub_id, folder, endpoint=settings.hf_endpoint, offline=settings.offline)
    spec = spec_of(folder)
    if spec is None:
        known = ", ".join(sorted(spec.title for spec in SPECS.values()))
        raise UserError("models.unknown_class", folder=hub_id, found=read_class_name(folder), known=known)
    return _folder_entry(hub_id, folder, spec, places, hub_id=hub_id)


def _problem(folder: Path, spec: FamilySpec, places: Places) -> Message | None:
    try:
        check_links(folder, (place.folder for place in places))
    except UserError as error:
        return error.message
    return _problem_since(folder, spec.name, tuple(_files(folder)))


@lru_cache(256)
def _problem_since(folder: Path, family: str, _: tuple[tuple[Path, int, int], ...]) -> Message | None:
    """What is wrong with a folder that holds these files: read again when one of them has changed, since the page asks
    for its models at every change of the form."""
    try:
        verify_folder(folder, SPECS[family])
    except UserError as error:
        return error.message
    return None


def _download_bytes(spec: FamilySpec, hub_id: str | None) -> int:
    return int(spec.download_gib * 2**30) if hub_id is not None and hub_id == spec.hub_id else 0


def _folder_bytes(folder: Path) -> int:
    """What the checkpoint's files take; links to files count as the files."""
    return sum(size for _, size, _ in _files(folder))


def _files(folder: Path) -> Iterator[tuple[Path, int, int]]:
    """The checkpoint's files, each with its bytes and when it changed last, in nanoseconds."""
    try:
        files = (*folder.glob("*"), *folder.glob("*/*"))
    except OSError:  # not to be read
        return
    for file in files:
        try:
            if file.is_file():
                found = file.stat()
                yield file, found.st_size, found.st_mtime_ns
        except OSError:  # gone meanwhile
            continue


def _expanded(name: str) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError:  # nobody here has that name
        return Path(name)


def _exists(path: Path) -> bool:
    try:
        os.stat(path)
    except PermissionError:  # told when it is looked into
        return True
    except (OSError, ValueError):  # not there, or no path at all
        return False
    return True
