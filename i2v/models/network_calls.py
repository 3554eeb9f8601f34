"""How often a scheduler calls the network in a run: what its steps cost. Told from its configuration, so that no
library has to be loaded to plan."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

_CONFIG = Path("scheduler") / "scheduler_config.json"
SECOND_ORDER = ("HeunDiscreteScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler")
"""Call the network twice for every step but the last."""


def network_calls(config: Mapping[str, Any], steps: int) -> int:
    """The calls for `steps` steps of the scheduler that `config` describes: as many as diffusers gives it timesteps."""
    name = config.get("_class_name")
    if name in SECOND_ORDER:
        return 2 * steps - 1
    if name == "PNDMScheduler":  # it begins with three Runge-Kutta steps of four calls each, or with one step twice
        return steps + (1 if config.get("skip_prk_steps") else 9) if steps > 1 else steps
    return steps


def calls_of_folder(folder: Path | None, steps: int) -> int:
    """As `network_calls` for the model in `folder`; `steps` where there is nothing to read."""
    if folder is None:
        return steps
    file = folder / _CONFIG
    try:
        return network_calls(_read(file, file.stat().st_mtime_ns), steps)
    except (OSError, ValueError):
        return steps


@cache
def _read(file: Path, _changed_ns: int) -> Mapping[str, Any]:
    values = json.loads(file.read_text("utf-8"))
    return values if isinstance(values, dict) else {}
