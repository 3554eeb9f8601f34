"""What was predicted for a job when its turn came, kept in its folder to be held against what came."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path

from i2v.plan import PhasePrediction, Prediction
from i2v.whole_file import write_whole

log = logging.getLogger(__name__)

PREDICTION = "prediction.json"


def keep_prediction(folder: Path, prediction: Prediction) -> None:
    """Write it whole, in place of an earlier one. A disk that does not take it costs the comparison, no more."""
    path = folder / PREDICTION
    try:
        write_whole(path, json.dumps(asdict(prediction), indent=1) + "\n")
    except OSError as error:
        log.warning("%s could not be written: %s", path, error)


def kept_prediction(folder: Path) -> Prediction | None:
    """What `keep_prediction` wrote; None where there is none, or none of ours."""
    try:
        values = json.loads((folder / PREDICTION).read_text(encoding="utf-8"))
        phases = tuple(PhasePrediction(**phase) for phase in values.pop("phases"))
        return Prediction(phases=phases, **values)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
