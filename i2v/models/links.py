"""Where the links inside a model folder lead: into that folder, or to a place in which models are looked for. A folder
that came from elsewhere may have others, which would have a file read that nobody meant."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from i2v.messages import UserError
from i2v.models.hub_cache import repository_of

_DEPTH = 2  # a model's components, and the files in them


def check_links(folder: Path, places: Iterable[Path] = ()) -> None:
    """Raise UserError, naming link and target, where a link inside `folder` leads out of it and to none of `places`.
    What is in the cache of the hub's own library may lead to its blobs there. The folder itself may be a link: that is
    somebody's own doing. A link to nothing leads nowhere, and is told where its file is missed."""
    links = links_in(folder)
    if not links:
        return
    allowed = [Path(os.path.realpath(one)) for one in (folder, *places)]
    repository = repository_of(Path(os.path.realpath(folder)))
    if repository is not None:
        allowed.append(repository / "blobs")
    for link in links:
        target = Path(os.path.realpath(link))
        if not any(target.is_relative_to(one) for one in allowed):
            raise UserError("models.link_outside", link=str(link), target=str(target), folder=str(folder))


def links_in(folder: Path) -> list[Path]:
    """The links in a model's folder and in its components, these themselves among them."""
    return list(_links(folder, _DEPTH))


def _links(folder: Path, depth: int) -> Iterator[Path]:
    """The links in `folder` and in the folders that are in it, those that are links themselves too."""
    try:
        with os.scandir(folder) as found:
            inside = sorted(found, key=lambda one: one.name)
    except OSError:  # not there, or not to be read: told where its files are looked for
        return
    for one in inside:
        if one.is_symlink():
            yield Path(one.path)
        if depth > 1 and one.is_dir():
            yield from _links(Path(one.path), depth - 1)
