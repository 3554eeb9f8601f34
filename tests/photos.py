"""A real photograph for tests, from a package that is installed anyway."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


def photograph(name: str = "cheetah.jpg") -> Path:
    """A photograph shipped with gradio: cheetah.jpg (502x343) or tower.jpg (377x600), both 8-bit RGB."""
    spec = find_spec("gradio")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "media_assets" / "images" / name
