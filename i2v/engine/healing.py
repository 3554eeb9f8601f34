"""Which plan to step down to when memory runs out in the middle of a run.

The planner has laid the ladder down beforehand; nothing here has to think in a starving process. Every step lowers what
the failing phase holds and raises nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from i2v.families.spec import UNET_KNOBS, UNET_RUNGS
from i2v.plan import Plan, Rung
from i2v.planning.planner import PLANNED, Rungs, candidates

Knobs = Mapping[str, Sequence[str]]

# The processor takes seconds for what it can take over. Denoising would take it hours.
# Where weights are is compared by component, and other windows of an autoencoder would make another picture.
_KEPT = frozenset({"offload", "vae_window"})
_HOST_FIELDS = {"encode": "encode_on_host", "decode": "decode_on_host"}


class Healer:
    """The ladder of one run. `plan` is the one in use.

    A step down takes from a rung what holds less than the plan in use, decision by decision (`lowest`), and keeps the
    rest. So no decision is ever taken back: what one phase was lowered to stays, whichever phase fails next, and the
    phases that are still to come can only hold less. For the same reason no rung has to be struck off: one that was
    taken, or that lies above the plan in use, changes nothing any more, and one that was passed over because it did not
    help this phase is there when another fails. Every step lowers at least one decision, so the ladder ends.
    """

    def __init__(
        self, plan: Plan, ladder: Sequence[Rung] = (), rungs: Rungs = UNET_RUNGS, knobs: Knobs = UNET_KNOBS
    ) -> None:
        """`ladder` holds the plans to step down to, with their predicted memory. When it is used up, or empty, the
        planner's general list of plans by the family's `rungs` follows, of which no memory is predicted. That list may
        also lower what a person has fixed, since the run would fail otherwise. `knobs`: the family's."""
        self.plan = plan
        self._knobs = knobs
        self._peaks_bytes = {_on_card(rung.plan): rung.peaks_bytes for rung in ladder}
        self._rungs = tuple(dict.fromkeys((*(rung.plan for rung in ladder), *candidates(plan, (), rungs))))

    def can_step_down(self, phase: str) -> bool:
        """Whether any rung is left that holds less in `phase`."""
        return self._next(phase) is not None

    def step_down(self, phase: str) -> Plan | None:
        """The next plan that holds less in `phase`, which then is the one in use; None when the ladder has ended."""
        plan = self._next(phase)
        if plan is not None:
            self.plan = plan
        return plan

    def _next(self, phase: str) -> Plan | None:
        for rung in self._rungs:
            plan = lowest(self.plan, rung)
            if self._lowers(plan, phase):
                return plan
        name = _HOST_FIELDS.get(phase)
        if name is None or self.plan.device == "cpu" or getattr(self.plan, name):
            return None
        return replace(self.plan, **{name: True})

    def _lowers(self, plan: Plan, phase: str) -> bool:
        """Whether `plan` holds less in `phase` than the one in use: as predicted, where both are."""
        peak, now = (self._peaks_bytes.get(_on_card(one), {}).get(phase) for one in (plan, self.plan))
        if peak is not None and now is not None:
            return peak < now
        return lowers(plan, self.plan, phase, self._knobs)


def lowest(plan: Plan, other: Plan) -> Plan:
    """`plan` with each decision that holds less in `other` taken from there."""
    names = {*_HOST_FIELDS.values(), *PLANNED} - _KEPT
    lower = {name: getattr(other, name) for name in names if _weight(name, other) < _weight(name, plan)}
    places = tuple(
        min(plan.place(component), other.place(component), key=lambda place: place.holds)
        for component in _components(plan, other)
    )
    return replace(plan, places=places, **lower)


def lowers(plan: Plan, before: Plan, phase: str, knobs: Knobs = UNET_KNOBS) -> bool:
    """Whether `plan` can only hold less in `phase` than `before`, by what bears on its memory alone: where weights are,
    the family's `knobs` for it, and where it is computed."""
    names = set(knobs.get(phase, ())) - _KEPT
    names |= {_HOST_FIELDS[phase]} if phase in _HOST_FIELDS else set()
    pairs = [(_weight(name, plan), _weight(name, before)) for name in names]
    pairs += [(plan.place(name).holds, before.place(name).holds) for name in _components(plan, before)]
    return all(new <= old for new, old in pairs) and any(new < old for new, old in pairs)


def _components(plan: Plan, other: Plan) -> list[str]:
    """The components that either plan names."""
    return list(dict.fromkeys(place.component for place in (*plan.places, *other.places)))


def _on_card(plan: Plan) -> Plan:
    """The plan as it was predicted: what a fault moved to the host was not foreseen."""
    return replace(plan, **dict.fromkeys(_HOST_FIELDS.values(), False))


def _weight(name: str, plan: Plan) -> float:
    """A number that is larger where the decision holds more."""
    value = getattr(plan, name)
    match name:
        case "cfg":
            return float(value == "batch")
        case "encode_on_host" | "decode_on_host":
            return float(not value)
        case _:
            return float(value or "inf")  # 0 is all of them
