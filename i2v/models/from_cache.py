"""Files of a model that the hub's own library has fetched already, for another program: they are linked to, where they
lie, in place of being fetched again."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from i2v.models.fetch.published import Published, PublishedFile
from i2v.models.hub_cache import HUB_FOLDER
from i2v.models.places import hub_folder


def link_to_cache(published: Published, folder: Path) -> None:
    """Make a link in `folder` for each file that is not there and whose contents the cache has by their digest. Whoever
    looks at the files then compares them with it."""
    for file in published.files:
        place, blob = folder / file.name, _blob(published, file)
        if os.path.lexists(place) or not _is_whole(blob, file):
            continue
        with suppress(OSError):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(blob)


def _blob(published: Published, file: PublishedFile) -> Path:
    """Where the cache would have the file's contents: it calls them by their digest."""
    repository = published.origin_of(file).hub_id.replace("/", "--")
    return hub_folder() / f"{HUB_FOLDER}{repository}" / "blobs" / file.digest.partition(":")[2]


def _is_whole(blob: Path, file: PublishedFile) -> bool:
    try:
        return bool(file.digest) and blob.is_file() and blob.stat().st_size == file.size_bytes
    except OSError:
        return False
