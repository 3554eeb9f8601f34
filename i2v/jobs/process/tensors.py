"""Having a model's weights compared with its configurations, by a process that has torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from i2v.jobs.process.start import ROOT, worker_environment
from i2v.messages import Message, message

COMMAND = (sys.executable, "-m", "i2v.worker.tensors")
_MOST_SECONDS = 600.0


def wrong_tensors(family: str, folder: Path, precision: str) -> Message | None:
    """What a run in this precision would find wrong with the weights' names, shapes and kinds; None where nothing is.
    Takes as long as importing torch."""
    try:
        ran = subprocess.run(
            [*COMMAND, family, str(folder.absolute()), precision], cwd=ROOT, env=worker_environment("", os.environ),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=_MOST_SECONDS,
            check=True,
        )  # fmt: skip
        wrong = json.loads(ran.stdout)
        return None if wrong is None else Message.from_json(wrong)
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError) as error:
        return message("models.not_compared", folder=str(folder), error=type(error).__name__)
