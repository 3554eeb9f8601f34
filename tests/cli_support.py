"""Running the command line in tests: as a process of its own, with every folder in a place of the test's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from photos import photograph

ROOT = Path(__file__).parents[1]
SMALL = ("--width", "64", "--height", "64", "--frames", "2", "--steps", "2", "--seed", "7", "--model", "standin")


def environment(folder: Path, **more: str) -> dict[str, str]:
    """This process's environment without settings, the log in `folder`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("I2V_")}
    return {**kept, "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "I2V_LOGS_DIR": str(folder / "logs"), **more}


def generate_words(folder: Path, models: Path, *more: str, prompt: str = "the camera moves closer") -> list[str]:
    """The words of a small generation on the processor."""
    places = ["--out", str(folder / "outputs"), "--models", str(models), "--cpu"]
    return ["generate", "--image", str(photograph()), "--prompt", prompt, *SMALL, *places, *more]


def i2v(folder: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """`python -m i2v` with `words`."""
    return subprocess.run(
        [sys.executable, "-m", "i2v", *words],
        cwd=ROOT,
        env=environment(folder, **environ),
        capture_output=True,
        text=True,
        timeout=120,
    )


def popen(folder: Path, *words: str, **more: object) -> subprocess.Popen[str]:
    """The same, running."""
    return subprocess.Popen(
        [sys.executable, "-m", "i2v", *words],
        cwd=ROOT,
        env=environment(folder),
        text=True,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more},  # type: ignore[arg-type]
    )
