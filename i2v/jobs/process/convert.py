"""Having the weights of a single file written in the layout of diffusers, by a process that has torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from i2v.jobs.process.start import ROOT, worker_environment
from i2v.messages import Message, UserError

COMMAND = (sys.executable, "-m", "i2v.worker.convert")


def convert(
    file: Path, bases: Sequence[Path], stems: Mapping[str, str], out: Path, on_bytes: Callable[[int], None]
) -> int:
    """As `engine.converted.convert`, whose arguments these are. The process ends with whatever ends this. Raises
    UserError."""
    order = {
        "file": str(file.absolute()),
        "bases": [str(base.absolute()) for base in bases],
        "stems": dict(stems),
        "out": str(out.absolute()),
    }
    with subprocess.Popen(
        COMMAND, cwd=ROOT, env=worker_environment("", os.environ), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True, encoding="utf-8",
    ) as process:  # fmt: skip
        try:
            assert process.stdin is not None and process.stdout is not None  # noqa: PT018
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
            for line in process.stdout:
                said = json.loads(line)
                if "base" in said:
                    return int(said["base"])
                if "error" in said:
                    error = Message.from_json(said["error"])
                    raise UserError(error.id, **error.params)
                on_bytes(said["bytes"])
        finally:
            process.kill()
    raise UserError("models.single_failed", file=str(file), error=f"exit code {process.returncode}")
