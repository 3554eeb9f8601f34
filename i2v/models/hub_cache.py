"""Models that the hub's own library keeps: `models--<owner>--<name>/snapshots/<revision>/`, links into blobs."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

from i2v.models.verify import INDEXES, index_of

_MAIN = Path("refs") / "main"


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
