"""When steadying a clip is worth offering, by what was measured of it."""

from __future__ import annotations

import json
from pathlib import Path

from i2v.messages import Message, message
from i2v.request import Finish

REPORT = "steadiness.json"
"""Beside a video that was measured: plain JSON, with `flicker` and `drift` as below."""

# What goes unnoticed, of brightness from frame to frame in parts of the mean, and of colours in CIE Lab.
UNNOTICED_FLICKER = 0.005
UNNOTICED_DRIFT = 2.3
OFFERED_FROM = 1.5  # times that


def offers_for(folder: Path, finish: Finish) -> dict[str, Message]:
    """As `offers`, by what was measured of the video in a job's folder; nothing where nothing was."""
    try:
        report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
        return offers(float(report["flicker"]), float(report["drift"]), finish)
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def offers(flicker: float, drift: float, finish: Finish) -> dict[str, Message]:
    """What to offer for a clip that was made with `finish`, by the names of its fields. `flicker`: the standard
    deviation of its brightness from frame to frame, in parts of the mean. `drift`: how far its colours go away from
    those of its first frame, in CIE Lab."""
    found = {}
    measured = {"deflicker": flicker / UNNOTICED_FLICKER, "match_colours": drift / UNNOTICED_DRIFT}
    for name, times in measured.items():
        if times >= OFFERED_FROM and not getattr(finish, name):
            found[name] = message(f"finishing.offer_{name}", times=f"{times:.1f}")
    return found
