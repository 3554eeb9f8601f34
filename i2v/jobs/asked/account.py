"""What a finished run says about its prediction: one line for the ledger."""

from __future__ import annotations

from collections.abc import Iterable

from i2v.events import Event, MemorySampled, PhaseFinished
from i2v.plan import Prediction
from i2v.planning.known import PHASES, engine_phase
from i2v.planning.ledger import PhaseMeasured


def measured_phases(events: Iterable[Event], plain: Prediction) -> tuple[PhaseMeasured, ...]:
    """Each phase of the engine as it was predicted (`plain`: without corrections) and as it came.

    Memory is told only by a card's own samples: a process's resident memory is no phase's. On a card it is what the
    allocator had reserved; the context stands beside it in both."""
    seconds: dict[str, float] = {}
    held: dict[str, int] = {}
    for event in events:
        match event:
            case PhaseFinished(phase=phase, seconds=took):
                seconds[phase] = seconds.get(phase, 0.0) + took
            case MemorySampled(phase=phase, source="cuda", reserved_bytes=size):
                held[phase] = max(held.get(phase, 0), size)
            case MemorySampled(phase=phase, source="simulated", peak_allocated_bytes=size):
                held[phase] = max(held.get(phase, 0), size)
    found = []
    for name in PHASES:
        ours = [phase for phase in plain.phases if engine_phase(phase.name) == name]
        if name in seconds and ours:
            predicted = max(phase.peak_bytes for phase in ours) - plain.context_bytes
            took = sum(phase.seconds for phase in ours)
            found.append(PhaseMeasured(name, predicted, held.get(name, predicted), took, seconds[name]))
    return tuple(found)
