"""What there is to see of a training: its losses, the clips it has made, and the LoRA."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from i2v.jobs.job.folder import TRAINING
from i2v.jobs.job.record import JobStatus
from i2v.messages import UserError
from i2v.training.losses import read_losses
from i2v.training.request import FORETOLD, PLAN, VALIDATION, TrainingRequest


@dataclass(frozen=True)
class TrainingSeen:
    """A training as it stands. `losses`: step and loss of every step that is kept. `clips`: the validation clips so
    far, oldest first. `file`: the LoRA, None until it is made. `peak_bytes`: the most that tensors held on the card in
    a step, None before the first, and `foretold_peak_bytes` what was foretold of that, None where nothing was.
    `seconds_left`: as its job's status has it."""

    name: str
    trigger: str
    steps: int
    losses: tuple[tuple[int, float], ...]
    clips: tuple[Path, ...]
    file: Path | None
    peak_bytes: int | None
    foretold_peak_bytes: int | None
    seconds_left: float | None

    @property
    def step(self) -> int:
        """How many steps are done."""
        return self.losses[-1][0] if self.losses else 0


def read_asked(folder: Path) -> dict[str, Any]:
    """What the job in `folder` is to train, as `AskedTraining.to_json` wrote it. Raises UserError where the folder is
    of no training, or what it says cannot be read."""
    try:
        asked = json.loads((folder / TRAINING).read_bytes())
        TrainingRequest.from_json(asked["request"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError("jobs.no_training", id=folder.name) from error
    return asked


def seen(status: JobStatus) -> TrainingSeen:
    """The training that `status` is of. Raises UserError where the job is no training."""
    request = TrainingRequest.from_json(read_asked(status.folder)["request"])
    work, file = Path(request.work), Path(request.file)
    rows = read_losses(work)
    return TrainingSeen(
        name=request.name,
        trigger=request.trigger,
        steps=request.steps,
        losses=tuple((row.step, row.loss) for row in rows),
        clips=tuple(sorted((work / VALIDATION).glob("*.mp4"))),
        file=file if status.state == "done" and file.is_file() else None,
        peak_bytes=max((row.peak_bytes for row in rows), default=None),
        foretold_peak_bytes=_foretold(work),
        seconds_left=status.seconds_left,
    )


def _foretold(work: Path) -> int | None:
    try:
        return int(json.loads((work / PLAN).read_bytes())[FORETOLD])
    except (OSError, ValueError, TypeError, KeyError):
        return None
