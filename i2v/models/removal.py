"""Taking a model off the disk: only what lies in the models folder itself, and never what a link leads to."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from i2v.messages import UserError
from i2v.models.adapters import FOLDER, AdapterFile, list_adapters
from i2v.models.catalogue import list_models
from i2v.models.entry import ASSETS
from i2v.models.fetch.parts import left_alone
from i2v.models.kinds import spec_of
from i2v.models.links import links_in
from i2v.whole_file import discard_folder, put_in_place, unfinished_path

if TYPE_CHECKING:
    from i2v.settings.settings import Settings

BIN = ".bin"
"""The folder in the models folder where removed models are kept: hidden, so nothing in it is a model."""


@dataclass(frozen=True)
class Removal:
    """What would go: `top`, a folder in the models folder or a link to one (`is_link`), and what that frees. `folder`
    is where the model's index is; `names`: what requests call it; `family` is None for a folder of no known one."""

    top: Path
    folder: Path
    is_link: bool
    size_bytes: int
    names: frozenset[str]
    family: str | None


def removal_of(folder: Path, settings: Settings) -> Removal:
    """What removing the model in `folder` would take away. Raises UserError where it lies outside of the models folder,
    or is not a model's: the folder of LoRAs, a hidden one."""
    models_dir = Path(os.path.abspath(settings.models_dir))
    place = Path(os.path.abspath(folder))
    if place.is_relative_to(ASSETS):
        raise UserError("models.remove_bundled", folder=str(place))
    if not place.is_relative_to(models_dir) or place == models_dir:
        raise UserError("models.remove_elsewhere", folder=str(place), models_dir=str(models_dir))
    top = models_dir / place.relative_to(models_dir).parts[0]
    if top.name == FOLDER or top.name.startswith("."):
        raise UserError("models.remove_elsewhere", folder=str(place), models_dir=str(models_dir))
    spec = spec_of(folder)
    entries = [one for one in list_models(settings) if one.folder is not None and _same(one.folder, folder)]
    names = {name for one in entries for name in (one.name, one.hub_id) if name} | {top.name, str(folder), str(place)}
    is_link = top.is_symlink()
    return Removal(top, folder, is_link, 0 if is_link else _held_bytes(top), frozenset(names), spec and spec.name)


def left_without(removal: Removal, settings: Settings) -> list[AdapterFile]:
    """The LoRAs that no other model on this computer could be used with."""
    others = {
        one.family
        for one in list_models(settings)
        if one.present and one.folder and not _same(one.folder, removal.folder)
    }
    if removal.family is None or removal.family in others:
        return []
    loras = list_adapters(settings.models_dir)
    return [one for one in loras if removal.family in one.families and not set(one.families) & others]


def linked_into(removal: Removal, settings: Settings) -> list[str]:
    """The names of models that are left without files when it goes: links of theirs lead into it."""
    if removal.is_link:
        return []
    gone = Path(os.path.realpath(removal.top))
    found = []
    for one in list_models(settings):
        if one.folder is None or Path(os.path.abspath(one.folder)).is_relative_to(removal.top):
            continue
        ways = (one.folder, *links_in(one.folder))
        if any(Path(os.path.realpath(way)).is_relative_to(gone) for way in ways):
            found.append(one.name)
    return found


def remove(removal: Removal, *, keep: bool = False) -> Path | None:
    """Take it away, for good, or with `keep` into the bin: then where it is now. Of a link only the link goes. Raises
    UserError where files of it are on their way, and where the folder may not be changed; then all of it is still
    there, or what could not be deleted is left under a hidden name, and told."""
    if removal.is_link:
        return _remove(removal, keep=keep)
    try:
        with left_alone(removal.top) as alone:
            if not alone:
                raise UserError("models.remove_coming", folder=str(removal.top))
            return _remove(removal, keep=keep)
    except OSError as error:
        raise _not_removed(removal.top, error.strerror or str(error)) from error


def _remove(removal: Removal, *, keep: bool) -> Path | None:
    try:
        if removal.is_link:
            removal.top.unlink()
            return None
        if keep:
            place = _free_name(removal.top.parent / BIN / removal.top.name)
            place.parent.mkdir(exist_ok=True)
            put_in_place(removal.top, place)
            return place
    except OSError as error:
        raise _not_removed(removal.top, error.strerror or str(error)) from error
    discard_folder(removal.top)
    for left in (removal.top, unfinished_path(removal.top)):
        if os.path.lexists(left):
            raise _not_removed(left, os.strerror(errno.EACCES))
    return None


def _not_removed(folder: Path, reason: str) -> UserError:
    return UserError("models.not_removed", folder=str(folder), reason=reason)


def _same(one: Path, other: Path) -> bool:
    return os.path.abspath(one) == os.path.abspath(other)


def _held_bytes(folder: Path) -> int:
    """What deleting the folder frees: no link's target."""
    size = 0
    for place, _, files in os.walk(folder):
        for name in files:
            try:
                size += os.lstat(os.path.join(place, name)).st_size
            except OSError:
                continue
    return size


def _free_name(path: Path) -> Path:
    """`path`, or with the first number behind it that nothing is called by."""
    number, name = 2, path
    while os.path.lexists(name):
        name, number = path.with_name(f"{path.name}-{number}"), number + 1
    return name
