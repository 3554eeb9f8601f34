"""Running the command line in tests, with every folder in a place of the test's: in this process, which costs next to
nothing, or as a process of its own where that is what the test is about."""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest import mock

from jobs_support import SCRIPTED
from photos import photograph

from i2v.cli import joined, main
from i2v.jobs.process.start import start_cold
from i2v.jobs.service import JobService
from tests.warm_support import shared

# Sets variables for Gradio, once: not inside of `as_started`, which would take them back.
importlib.import_module("i2v.ui")

ROOT = Path(__file__).parents[1]
SMALL = ("--width", "64", "--height", "64", "--frames", "2", "--steps", "2", "--seed", "7", "--model", "nano")

REAL = ("-m", "i2v")
# The command line whose jobs run in the worker of tests/worker_script.py: it makes no video, and needs no torch.
SCRIPTED_ENGINE = (
    "-c",
    "import sys; sys.path.append('tests'); from cli_support import main, scripted_engine\n"
    "with scripted_engine(): sys.exit(main(sys.argv[1:]))",
)


def environment(folder: Path, **more: str) -> dict[str, str]:
    """This process's environment without settings, the log in `folder`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("I2V_")}
    return {**kept, "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "I2V_LOGS_DIR": str(folder / "logs"), **more}


def generate_words(folder: Path, *more: str, prompt: str = "the camera moves closer") -> list[str]:
    """The words of a small generation on the processor, with the bundled model."""
    places = ["--out", str(folder / "outputs"), "--models", str(folder / "models"), "--cpu"]
    return ["generate", "--image", str(photograph()), "--prompt", prompt, *SMALL, *places, *more]


def i2v(folder: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """What `python -m i2v` does with `words`, by its `main` in this process. Other modules than its own may be loaded
    here already, file descriptors 1 and 2 are this process's, and what computes is forked."""
    out, err = _stream(), _stream()
    forking = mock.patch.object(joined, "JobService", functools.partial(joined.JobService, start=shared().start))
    with forking, as_started(folder, **environ), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words)
    return subprocess.CompletedProcess(list(words), int(code), _written(out), _written(err))


@contextlib.contextmanager
def as_started(folder: Path, **environ: str) -> Iterator[None]:
    """Environment and current folder as `i2v_process` starts its process with them. Afterwards they are as before,
    and so is what `main` sets for the rest of its process: where its log goes, what becomes of a thread's error."""
    logger, hook, raising = logging.getLogger("i2v"), threading.excepthook, logging.raiseExceptions
    handlers, level = logger.handlers, logger.level
    try:
        with mock.patch.dict(os.environ, environment(folder, **environ), clear=True), contextlib.chdir(ROOT):
            yield
    finally:
        for handler in logger.handlers:
            if handler not in handlers:
                handler.close()
        logger.handlers = handlers
        logger.setLevel(level)
        threading.excepthook, logging.raiseExceptions = hook, raising


def i2v_process(
    folder: Path, *words: str, program: Sequence[str] = REAL, **environ: str
) -> subprocess.CompletedProcess[str]:
    """The same as a process: `python -m i2v`, or another `program` for Python."""
    return subprocess.run(
        [sys.executable, *program, *words],
        cwd=ROOT,
        env=environment(folder, **environ),
        capture_output=True,
        text=True,
        timeout=120,
    )


def popen(folder: Path, *words: str, program: Sequence[str] = REAL, **more: object) -> subprocess.Popen[str]:
    """The same, running."""
    return subprocess.Popen(
        [sys.executable, *program, *words],
        cwd=ROOT,
        env=environment(folder),
        text=True,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more},  # type: ignore[arg-type]
    )


@contextlib.contextmanager
def scripted_engine() -> Iterator[None]:
    """Jobs that the command line runs itself go to the scripted worker."""

    def service(*args: object, **options: object) -> JobService:
        return JobService(*args, **{**options, "worker_command": SCRIPTED, "start": start_cold})  # type: ignore[arg-type]

    with mock.patch.object(joined, "JobService", service):
        yield


def _stream() -> io.TextIOWrapper:
    """A pipe's end as Python opens it in UTF-8."""
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="\n", write_through=True)


def _written(stream: io.TextIOWrapper) -> str:
    return stream.buffer.getvalue().decode()  # type: ignore[attr-defined]
