"""Taking a LoRA off the shelf: only what is listed there, and with it the picture beside it."""

from __future__ import annotations

import os
from pathlib import Path

from i2v.messages import UserError, message
from i2v.models.adapters import list_adapters
from i2v.models.lora_pictures import beside
from i2v.models.lora_places import FOLDER


def own_lora(name: str, models_dir: Path) -> Path:
    """The file of the shelf that is listed as `name`; those of other programs are theirs. Raises UserError where there
    is none."""
    files = {one.name: one.path for one in list_adapters(models_dir)}
    if name not in files:
        known = ", ".join(files) or message("models.no_adapters").to_json()
        raise UserError("models.adapter_missing", name=name, folder=str(models_dir / FOLDER), known=known)
    return files[name]


def is_own(file: Path, models_dir: Path) -> bool:
    """Whether the file is on the app's own shelf, and so the app's to remove."""
    return Path(os.path.abspath(file)).is_relative_to(os.path.abspath(models_dir / FOLDER))


def remove_lora(file: Path) -> None:
    """Delete it, and the picture of its name, for good. Raises UserError where that is not allowed."""
    try:
        pictures = list(beside(file))
        file.unlink()
        for picture in pictures:
            picture.unlink(missing_ok=True)
    except OSError as error:
        raise UserError("models.not_removed", folder=str(file), reason=error.strerror or str(error)) from error
