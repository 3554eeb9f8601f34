"""Models that the hub's own library keeps: `models--<owner>--<name>/snapshots/<revision>/`, links into blobs, which are
called by their contents."""

from __future__ import annotations

import os
import re
from pathlib import Path

from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

from i2v.models.verify import INDEXES, index_of

HUB_FOLDER = "models--"
"""What the folder of a model begins with in such a cache."""
_MAIN = Path("refs") / "main"
_BLOB = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def newest_snapshot(folder: Path) -> Path | None:
    """In a model's folder of such a cache the snapshot that `main` names, else the newest; None where `folder` is no
    such folder, or nothing in it may be read."""
    snapshots = folder / "snapshots"
    try:
        found = [entry for entry in snapshots.iterdir() if index_of(entry) is not None]
        found.sort(key=lambda entry: entry.stat().st_mtime_ns)
    except OSError:
        return None
    try:
        main = snapshots / (folder / _MAIN).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        main = None
    return main if main in found else found[-1] if found else None


def cached(hub_id: str) -> Path | None:
    """The snapshot of `hub_id` in the cache of this user (HF_HUB_CACHE, HF_HOME); it may lack files. None without."""
    try:
        found = [try_to_load_from_cache(hub_id, name, cache_dir=constants.HF_HUB_CACHE) for name in INDEXES]
    except (OSError, HFValidationError):
        return None
    return next((Path(index).parent for index in found if isinstance(index, str)), None)


def repository_of(snapshot: Path) -> Path | None:
    """The folder of the model that `snapshot` is a revision of, whatever it is called by now; None where it is none."""
    top = snapshot.parent.parent
    return top if snapshot.parent.name == "snapshots" and os.path.isdir(top / "blobs") else None


def hub_id_of(repository: Path) -> str | None:
    """`owner/name` of a model's folder in such a cache; None where its name is not one."""
    prefix, _, rest = repository.name.partition("--")
    owner, _, name = rest.partition("--")
    return f"{owner}/{name}" if f"{prefix}--" == HUB_FOLDER and owner and name else None


def blob_digest(file: Path) -> str | None:
    """What the hub says of the contents of `file`, where it is a link to a blob: the blob's own name, a sha256 of 64
    digits or git's sha1 of 40. None where it is none."""
    try:
        target = file.readlink() if file.is_symlink() else None
    except OSError:
        return None
    named = target is not None and target.parent.name == "blobs" and _BLOB.fullmatch(target.name)
    return target.name if target is not None and named else None
