"""Predicted against measured, run by run: what the next prediction is corrected by.

One JSON line a run, keyed by model, plan, card, torch and cuDNN, and attention backend. Corrections hold per model,
card and phase, never per shape, and memory is only ever corrected upwards: predictions stay monotone in the job and
in the card.
"""

from __future__ import annotations

import json
import logging
import statistics
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

RECENT = 9  # runs that a correction listens to
TIME_RANGE = (0.2, 10.0)  # beyond this a measurement says more about the moment than about the card


@dataclass(frozen=True)
class Setup:
    """What a measurement holds for."""

    model: str
    precision: str
    card: str
    torch: str
    cudnn: str = ""
    attention: str = "sdpa"


@dataclass(frozen=True)
class PhaseMeasured:
    """One phase, as it was predicted without corrections and as it came."""

    name: str
    predicted_bytes: int
    measured_bytes: int
    predicted_seconds: float
    measured_seconds: float


@dataclass(frozen=True)
class Entry:
    """One run. `healed`: the rungs it took when memory ran out; such a run has no figures of one plan. `slowdown`: how
    much slower other programs made it, which says nothing about the machine."""

    setup: Setup
    plan: Mapping[str, Any]
    phases: tuple[PhaseMeasured, ...]
    healed: tuple[str, ...] = ()
    slowdown: float = 1.0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Entry:
        return cls(
            Setup(**values["setup"]),
            dict(values["plan"]),
            tuple(PhaseMeasured(**phase) for phase in values["phases"]),
            tuple(map(str, values.get("healed", ()))),
            max(1.0, float(values.get("slowdown", 1.0))),
        )


@dataclass(frozen=True)
class Correction:
    """By phase: bytes to add to the workspace, and what to multiply the time by."""

    extra: Mapping[str, int] = field(default_factory=dict)
    factor: Mapping[str, float] = field(default_factory=dict)

    def extra_bytes(self, phase: str) -> int:
        return self.extra.get(phase, 0)

    def time_factor(self, phase: str) -> float:
        return self.factor.get(phase, 1.0)


NO_CORRECTION = Correction()


class Ledger:
    """The file of all runs. Lines that cannot be read are left where they are and not listened to. The file is read
    again when it has changed, since every change of the form asks for a correction. Any thread may call."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read: tuple[tuple[int, int] | None, list[Entry]] = (None, [])
        self._corrections: dict[Setup, Correction] = {}
        self._reading = threading.Lock()

    def add(self, entry: Entry) -> None:
        """Append one run; a ledger that cannot be written costs a correction, no more."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry.to_json(), allow_nan=False) + "\n")
        except (OSError, ValueError) as error:
            log.warning("The run is not in the ledger: %s", error)

    def entries(self) -> list[Entry]:
        """Every run that can be read, oldest first."""
        with self._reading:
            return list(self._entries())

    def _entries(self) -> list[Entry]:
        try:
            found = self.path.stat()
            state = found.st_mtime_ns, found.st_size
        except OSError:
            state = None
        if state is None or state != self._read[0]:
            self._read = state, self._from_file()
            self._corrections.clear()
        return self._read[1]

    def _from_file(self) -> list[Entry]:
        try:
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return []
        found = []
        for number, line in enumerate(lines, start=1):
            try:
                found.append(Entry.from_json(json.loads(line)))
            except (ValueError, TypeError, KeyError, AttributeError):
                log.warning("%s, line %d is no run of ours and is left aside", self.path, number)
        return found

    def correction(self, setup: Setup) -> Correction:
        """What the last runs of this set-up say."""
        with self._reading:
            entries = self._entries()
            if setup not in self._corrections:
                own = [entry for entry in entries if entry.setup == setup and not entry.healed]
                self._corrections[setup] = correction_from(own)
            return self._corrections[setup]


def correction_from(entries: Sequence[Entry]) -> Correction:
    """By phase, over the last runs: the largest shortfall of memory, and the middle ratio of times."""
    phases: dict[str, list[PhaseMeasured]] = {}
    for entry in entries[-RECENT:]:
        for phase in entry.phases:
            # As long as it would have taken on a processor that nobody else uses.
            alone = replace(phase, measured_seconds=phase.measured_seconds / entry.slowdown)
            phases.setdefault(phase.name, []).append(alone)
    return Correction(
        extra={name: _shortfall(measured) for name, measured in phases.items()},
        factor={name: _pace(measured) for name, measured in phases.items()},
    )


def _shortfall(measured: Iterable[PhaseMeasured]) -> int:
    return max(0, *(phase.measured_bytes - phase.predicted_bytes for phase in measured))


def _pace(measured: Iterable[PhaseMeasured]) -> float:
    ratios = [p.measured_seconds / p.predicted_seconds for p in measured if p.predicted_seconds > 0]
    low, high = TIME_RANGE
    return min(max(statistics.median(ratios), low), high) if ratios else 1.0
