"""Bringing a model that lies elsewhere into the models folder: copied, moved, or as a link to where it is."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from i2v.families import SPECS
from i2v.messages import UserError
from i2v.models.expected import expected_files
from i2v.models.fetch.contents import CHUNK_BYTES, Contents
from i2v.models.fetch.published import PublishedFile
from i2v.models.fetch.record import Fetched, FetchedFile, found_right, write_record
from i2v.models.hub_cache import hub_id_of, repository_of
from i2v.models.kinds import ModelKind, kind_of
from i2v.models.not_models import refusal
from i2v.models.places import ModelPlace, checkpoints_in
from i2v.units import GIB
from i2v.whole_file import discard_folder, put_in_place, unfinished_path, whole_folder

How = Literal["copy", "move", "link"]
_SPARE_BYTES = GIB // 4  # left free beside the model, for the job's own files


@dataclass(frozen=True)
class ModelToBring:
    """A model to bring: the folder that a person named or that was found in it, what it is, and its name to be."""

    top: Path
    kind: ModelKind
    name: str

    @property
    def files(self) -> dict[str, Path]:
        """The model's files by their names in it; hidden ones are the business of whoever put them there."""
        found = {}
        for place, folders, files in os.walk(self.kind.folder, followlinks=True):
            folders[:] = [one for one in folders if not one.startswith(".")]
            inside = Path(place)
            found |= {(inside / one).relative_to(self.kind.folder).as_posix(): inside / one for one in files}
        return {name: file for name, file in found.items() if not Path(name).name.startswith(".")}

    @property
    def size_bytes(self) -> int:
        return sum(file.stat().st_size for file in self.files.values())


def find_models(source: Path, places: Iterable[Path]) -> list[ModelToBring]:
    """The models to bring that lie in `source`: itself, or those in it. Raises UserError where there is none, and where
    the one that was named cannot be used as it is."""
    places = (*places, source)
    inside = list(checkpoints_in(ModelPlace("folder", source)))
    if not inside:
        if (other := refusal(source)) is not None:
            raise other
        problem = kind_of(source, places).problems[0]
        raise UserError(problem.id, **problem.params)
    kinds = [(top, kind_of(top, places)) for top, _ in inside]
    if len(kinds) == 1 and (problems := kinds[0][1].problems):
        raise UserError(problems[0].id, **problems[0].params)
    return [ModelToBring(top, kind, _name_of(top, kind)) for top, kind in kinds if kind.whole]


def bring(
    found: ModelToBring, models_dir: Path, how: How, on_bytes: Callable[[int], None] = lambda _count: None
) -> Path:
    """Bring one into the models folder, and return where it is there. It appears whole or not at all; what is copied is
    compared with its digests, where these are known. Raises UserError."""
    target = models_dir / found.name
    source = Path(os.path.abspath(found.top))
    if os.path.lexists(target) or source.is_relative_to(os.path.abspath(models_dir)):
        raise UserError("models.name_taken", name=found.name, folder=str(target))
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        if how == "link":
            target.symlink_to(source, target_is_directory=True)
        elif how == "move":
            _move(found, source, target, on_bytes)
        else:
            _copy(found, target, on_bytes)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise _disk_full(found, models_dir) from error
        raise UserError("models.not_writable", folder=str(target), reason=error.strerror or str(error)) from error
    return target


def _move(found: ModelToBring, source: Path, target: Path, on_bytes: Callable[[int], None]) -> None:
    if found.kind.folder != found.top or source.is_symlink() or any(file.is_symlink() for file in source.rglob("*")):
        raise UserError("models.move_links", folder=str(source))
    try:
        put_in_place(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(found, target, on_bytes)
        discard_folder(source)


def _copy(found: ModelToBring, target: Path, on_bytes: Callable[[int], None]) -> None:
    files = found.files
    if shutil.disk_usage(target.parent).free < found.size_bytes + _SPARE_BYTES:
        raise _disk_full(found, target.parent)
    expected = expected_files(found.kind.folder)
    shutil.rmtree(unfinished_path(target), ignore_errors=True)  # of an import that was killed
    with whole_folder(target) as unfinished:
        recorded = []
        for name, file in sorted(files.items()):
            place = unfinished / name
            place.parent.mkdir(parents=True, exist_ok=True)
            size = file.stat().st_size
            known = expected[name].published(name, size) if name in expected else PublishedFile(name, size)
            _copy_file(file, place, known, on_bytes)
            if known.digest:
                recorded.append(found_right(unfinished, name, known.digest))
        if recorded:
            write_record(unfinished, _record(found, tuple(recorded)))


def _copy_file(file: Path, place: Path, known: PublishedFile, on_bytes: Callable[[int], None]) -> None:
    """Copy a file and compare what was copied with what is known of it. Raises OSError and UserError."""
    contents = Contents(known)
    with file.open("rb") as source, place.open("wb") as copy:
        while part := source.read(CHUNK_BYTES):
            copy.write(part)
            on_bytes(len(part))
            if known.digest:  # else nobody asks
                contents.add(part)
    if known.digest and not contents.right:
        raise UserError("models.other_contents", file=str(file))


def _record(found: ModelToBring, files: tuple[FetchedFile, ...]) -> Fetched:
    """What this app would have written down, had it fetched these files itself."""
    repository = repository_of(found.kind.folder)
    hub_id = hub_id_of(repository) if repository is not None else None
    revision = found.kind.folder.name if repository is not None else ""
    return Fetched(hub_id or "", revision, "import", files)


def _name_of(top: Path, kind: ModelKind) -> str:
    """What it will be called: of a cache of the hub's library as this app calls what it has fetched from the hub."""
    repository = repository_of(kind.folder)
    hub_id = hub_id_of(repository) if repository is not None else None
    if hub_id is None:
        return top.resolve().name if top.name in ("", ".", "..") else top.name
    of_a_family = any(spec.hub_id == hub_id for spec in SPECS.values())
    return hub_id.split("/")[1] if of_a_family else hub_id.replace("/", "--")


def _disk_full(found: ModelToBring, models_dir: Path) -> UserError:
    free = shutil.disk_usage(models_dir).free
    needed = found.size_bytes + _SPARE_BYTES
    return UserError(
        "models.disk_too_small", model=found.name, folder=str(models_dir), needed_gib=round(needed / GIB, 1),
        free_gib=round(free / GIB, 1),
    )  # fmt: skip
