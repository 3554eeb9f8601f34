"""What tells one large file from another without reading all of it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from i2v.models.gguf_files import GGUF
from i2v.models.verify import SAFETENSORS

_PARTS, _PART_BYTES = 16, 4096


def parts_digest(path: Path) -> str:
    """Of a file's size and of parts from all over it. Training weights further changes every part; copying changes
    none. Raises OSError."""
    digest = hashlib.sha256()
    add_parts(digest, path)
    return digest.hexdigest()[:16]


def add_parts(digest: hashlib._Hash, path: Path) -> None:
    """Have `digest` go on over the size and the parts of the file at `path`. Raises OSError."""
    size = path.stat().st_size
    digest.update(f" {size}".encode())
    with path.open("rb") as file:
        for part in range(_PARTS):
            file.seek(max(0, size - _PART_BYTES) * part // (_PARTS - 1))
            digest.update(file.read(_PART_BYTES))


def model_digest(folder: Path) -> str:
    """What tells one checkpoint from another: its configurations, and of each weights file the size, the header and
    parts from all over it. Training further changes every part; copying changes none. What is hidden is no part of it:
    there lies what this app and others note of their own."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        if path.suffix == ".json":
            digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
        elif path.suffix in (SAFETENSORS, GGUF):
            digest.update(path.relative_to(folder).as_posix().encode())
            add_parts(digest, path)
    return digest.hexdigest()[:16]
