"""How much room there is for models."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def free_bytes(models_dir: Path) -> int | None:
    """What is free where the models folder is or will be; None where nobody says."""
    folder = Path(os.path.abspath(models_dir))
    for place in (folder, *folder.parents):
        try:
            return shutil.disk_usage(place).free
        except OSError:
            continue
    return None
