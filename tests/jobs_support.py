"""What the tests of service and worker share: settings in a temporary folder, a scripted worker, patient waiting."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from i2v.families.i2vgen_xl.spec import SPEC
from i2v.hardware.probe import MemoryProbe
from i2v.settings.settings import Settings, settings_and_probe
from tests.model_folders import make_checkpoint

MODEL = "small"
SCRIPT = Path(__file__).with_name("worker_script.py")
SCRIPTED = (sys.executable, str(SCRIPT), "scripted")
WATCHED = (sys.executable, str(SCRIPT), "watched")


def settings_in(folder: Path, **overrides: object) -> tuple[Settings, MemoryProbe]:
    """Settings for the processor, with every folder inside `folder`."""
    places = {f"{name}_dir": str(folder / name) for name in ("outputs", "models", "logs")}
    return settings_and_probe(
        config_path=folder / "config.yaml", environ={}, overrides={"cpu": True, **places, **overrides}
    )


def fake_model(folder: Path) -> None:
    """A model called MODEL in `folder`/models that is whole as far as its headers say: enough for an engine that loads
    nothing."""
    make_checkpoint(folder / "models" / MODEL, SPEC)


def small_picture(folder: Path) -> Path:
    """A JPEG of 96x64 whose EXIF says that it lies on its side."""
    picture = Image.linear_gradient("L").resize((96, 64)).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    path = folder / "picture.jpg"
    picture.save(path, exif=exif)
    return path


def values(prompt: str = "go", **more: object) -> dict[str, object]:
    """A small request for `fake_model`'s model."""
    return {"model": MODEL, "prompt": prompt, "width": 64, "height": 64, "frames": 2, "steps": 4, "seed": 1, **more}


def wait_until(true: Callable[[], object], seconds: float = 120) -> None:
    """Return as soon as `true()` is; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)
