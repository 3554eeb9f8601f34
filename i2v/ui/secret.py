"""The key under which browsers keep a job's id: made once, kept in a file, so that it outlives a restart."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from i2v.ui import CACHE_DIR


def browser_secret(folder: Path = CACHE_DIR) -> str:
    """The kept key; a new one for this start only where the folder cannot be written."""
    path = folder / "browser_secret"
    try:
        if path.exists():
            return path.read_text(encoding="ascii")
        folder.mkdir(parents=True, exist_ok=True)
        made = secrets.token_hex(16)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(made)
        return made
    except OSError:
        return secrets.token_hex(16)
