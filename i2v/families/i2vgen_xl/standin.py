"""The model that stands in until real weights are there: real classes, real code, no training."""

from __future__ import annotations

from pathlib import Path

from i2v.families.i2vgen_xl.checkpoints import build_checkpoint


def ensure_standin(folder: Path) -> Path:
    """Make the stand-in checkpoint in `folder` unless it is there; takes about a second."""
    if not (folder / "model_index.json").is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        build_checkpoint(folder)
    return folder
