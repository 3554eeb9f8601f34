"""Which plan to step down to when memory runs out in the middle of a run.

The planner has laid the ladder down beforehand; nothing here has to think in a starving process. Every rung lowers
what the failing phase holds, and is taken once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from i2v.plan import Plan, Rung
from i2v.planning.planner import candidates

# What in a plan bears on each phase's memory, where no prediction says it.
_BEARS_ON = {
    "encode": ("offload", "encode_on_host"),
    "denoise": ("offload", "cfg", "chunk_frames", "chunk_pixels"),
    "decode": ("offload", "decode_frames", "decode_on_host"),
}
# The processor takes seconds for what it can take over. Denoising would take it hours.
_HOST_FIELDS = {"encode": "encode_on_host", "decode": "decode_on_host"}


class Healer:
    """The ladder of one run. `plan` is the one in use."""

    def __init__(self, plan: Plan, ladder: Sequence[Rung] = ()) -> None:
        """Below the `ladder`, and without one, the planner's own order of plans has to do, unpredicted: there even what
        a person fixed gives way, since the run would be lost otherwise."""
        self.plan = plan
        self._peaks_bytes = next((dict(rung.peaks_bytes) for rung in ladder if rung.plan == plan), {})
        self._rungs = [rung for rung in ladder if rung.plan != plan]
        self._rungs += [Rung(one) for one in candidates(plan, ()) if one not in {rung.plan for rung in ladder}]

    def can_step_down(self, phase: str) -> bool:
        """Whether any rung is left that holds less in `phase`."""
        return any(self._lowers(rung, phase) for rung in self._rungs) or self._can_move(phase)

    def step_down(self, phase: str) -> Plan | None:
        """The next plan that holds less in `phase`, which then is the one in use; None when the ladder has ended."""
        while self._rungs:
            rung = self._rungs.pop(0)
            if self._lowers(rung, phase):
                # What an earlier fault moved to the host stays there.
                host = {name: getattr(self.plan, name) for name in _HOST_FIELDS.values()}
                self._peaks_bytes = dict(rung.peaks_bytes)
                self.plan = replace(rung.plan, **host)
                return self.plan
        if not self._can_move(phase):
            return None
        self.plan = replace(self.plan, **{_HOST_FIELDS[phase]: True})
        return self.plan

    def _can_move(self, phase: str) -> bool:
        """Whether the host could compute this phase and does not yet."""
        name = _HOST_FIELDS.get(phase)
        return name is not None and self.plan.device != "cpu" and not getattr(self.plan, name)

    def _lowers(self, rung: Rung, phase: str) -> bool:
        peak, now = rung.peaks_bytes.get(phase), self._peaks_bytes.get(phase)
        if peak is not None and now is not None:
            return peak < now
        return lowers(rung.plan, self.plan, phase)


def lowers(plan: Plan, before: Plan, phase: str) -> bool:
    """Whether `plan` can only hold less in `phase` than `before`, by its decisions alone."""
    pairs = [(_weight(name, plan), _weight(name, before)) for name in _BEARS_ON.get(phase, ())]
    return all(new <= old for new, old in pairs) and any(new < old for new, old in pairs)


def _weight(name: str, plan: Plan) -> float:
    """A number that is larger where the decision holds more."""
    value = getattr(plan, name)
    match name:
        case "offload":
            return float(value == "resident")
        case "cfg":
            return float(value == "batch")
        case "encode_on_host" | "decode_on_host":
            return float(not value)
        case _:
            return float(value or "inf")  # 0 is all of them
