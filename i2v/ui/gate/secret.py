"""Keys that are made once and kept in a file, so that they outlive a restart."""

from __future__ import annotations

import secrets
from pathlib import Path

from i2v.ui import CACHE_DIR
from i2v.whole_file import whole_file


def browser_secret(folder: Path = CACHE_DIR) -> str:
    """The key under which browsers keep a job's id; every page knows it."""
    return _kept(folder / "browser_secret")


def upload_secret(folder: Path = CACHE_DIR) -> str:
    """The key that seals whose an upload is; it never leaves the server."""
    return _kept(folder / "upload_secret")


def _kept(path: Path) -> str:
    """The key in the file at `path`; a new one for this start only where the folder cannot be written."""
    try:
        if path.exists() and (kept := path.read_text(encoding="ascii")):
            return kept
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as part:
            part.touch(0o600)
            part.write_text(secrets.token_hex(16), encoding="ascii")
        return path.read_text(encoding="ascii")  # of two that begin at once, the later one's may be there
    except (OSError, ValueError):
        return secrets.token_hex(16)
