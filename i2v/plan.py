"""How a request is run: every decision about placement and chunking, nothing about the picture itself; and what that
will hold and take, as predicted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

Precision = Literal["float32", "float16", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = ("float32", "float16", "bfloat16")

CfgMode = Literal["batch", "split"]
CFG_MODES: tuple[CfgMode, ...] = ("batch", "split")

Offload = Literal["resident", "staged"]
OFFLOADS: tuple[Offload, ...] = ("resident", "staged")

Weights = Literal["full", "float8", "int8"]

Verdict = Literal["fits", "tight", "wont_fit"]

Policy = Literal["lossless", "balanced", "smallest"]
POLICIES: tuple[Policy, ...] = ("lossless", "balanced", "smallest")


@dataclass(frozen=True)
class PhasePrediction:
    """One phase of a run; `peak_bytes` is all that the card holds in it, the context included."""

    name: str
    weights_bytes: int
    activations_bytes: int
    workspace_bytes: int
    peak_bytes: int
    seconds: float


@dataclass(frozen=True)
class Shortage:
    """Where a job finds too little: what it needs there, and what is free."""

    place: Literal["card", "ram", "disk"]
    needed_bytes: int
    free_bytes: int

    @property
    def short_bytes(self) -> int:
        """How much is missing; 0 or less where nothing is."""
        return self.needed_bytes - self.free_bytes


@dataclass(frozen=True)
class Prediction:
    """A plan on one machine: on the card, in RAM and on disk. `budget_bytes` is what is free on the card before our
    context exists; without a card the phases are in RAM and the budget is what is free there. `exact` is false where
    the figures are those of a larger job, which this one's can not exceed."""

    phases: tuple[PhasePrediction, ...]
    context_bytes: int
    margin_bytes: int
    budget_bytes: int
    ram_peak_bytes: int
    ram_free_bytes: int
    disk_bytes: int
    disk_free_bytes: int
    exact: bool = True

    @property
    def peak(self) -> PhasePrediction:
        """The phase that holds most."""
        return max(self.phases, key=lambda phase: phase.peak_bytes)

    @property
    def seconds(self) -> float:
        return sum(phase.seconds for phase in self.phases)

    @property
    def short_bytes(self) -> int:
        """How much is missing on the card, in RAM or on disk, whichever is shortest; 0 or less where all is there."""
        return max(place.short_bytes for place in self._places())

    def shortages(self, device: str) -> tuple[Shortage, ...]:
        """Where a job that is computed on `device` finds too little, the place that is shortest first. Without a card
        its phases are in RAM."""
        card, ram, disk = self._places()
        if device == "cpu":
            ram = max(ram, replace(card, place="ram"), key=lambda one: one.short_bytes)
        places = (ram, disk) if device == "cpu" else (card, ram, disk)
        return tuple(sorted((one for one in places if one.short_bytes > 0), key=lambda one: -one.short_bytes))

    def _places(self) -> tuple[Shortage, Shortage, Shortage]:
        return (
            Shortage("card", self.peak.peak_bytes, self.budget_bytes),
            Shortage("ram", self.ram_peak_bytes, self.ram_free_bytes),
            Shortage("disk", self.disk_bytes, self.disk_free_bytes),
        )

    @property
    def verdict(self) -> Verdict:
        if self.short_bytes > 0:
            return "wont_fit"
        spare = min(self.budget_bytes - self.peak.peak_bytes, self.ram_free_bytes - self.ram_peak_bytes)
        return "fits" if spare >= self.margin_bytes else "tight"


@dataclass(frozen=True)
class Plan:
    """Every placement decision for one run. Two plans of equal precision and weights give the same
    picture.

    `device` is "cpu", "cuda" (the worker sees one card, chosen through CUDA_VISIBLE_DEVICES) or "simulated"
    (a card of `memory_cap_bytes` made of host memory).
    `chunk_frames`, `chunk_pixels`, `decode_frames`: how many at once, 0 means all.
    `offload`: "resident" keeps every component on the card, "staged" holds only what the running phase needs.
    `weights`: how the denoiser's are stored: in `precision`, or in eight bits and widened layer by layer at use, which
    is not lossless.
    `wide_convolutions`: computed in float32 layer by layer, for a card that computes them wrongly in half precision.
    `encode_on_host`, `decode_on_host`: those phases computed by the processor, slowly, where the card has no room.
    `memory_cap_bytes`: what the run may hold on the card, or None for all that is free.
    """

    device: Literal["cpu", "cuda", "simulated"] = "cpu"
    precision: Precision = "float32"
    chunk_frames: int = 0
    chunk_pixels: int = 0
    cfg: CfgMode = "batch"
    offload: Offload = "resident"
    decode_frames: int = 1
    encode_on_host: bool = False
    decode_on_host: bool = False
    memory_cap_bytes: int | None = None
    preset: str = "cpu"
    lossless: bool = True
    weights: Weights = "full"
    wide_convolutions: bool = False

    def to_json(self) -> dict[str, Any]:
        """This plan as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Plan:
        """Read back what `to_json` wrote; keys of newer versions are ignored."""
        known = {f.name for f in fields(cls)}
        return cls(**{key: value for key, value in values.items() if key in known})

    def changes(self, before: Plan) -> dict[str, Any]:
        """The decisions that differ from `before`, as they are here."""
        old = asdict(before)
        return {name: value for name, value in asdict(self).items() if value != old[name]}


@dataclass(frozen=True)
class Rung:
    """A plan to step down to when memory runs out, and what each phase of the engine is predicted to hold under it."""

    plan: Plan
    peaks_bytes: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """This rung as plain JSON values; `from_json` reads it back unchanged."""
        return {"plan": self.plan.to_json(), "peaks_bytes": dict(self.peaks_bytes)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Rung:
        """Read back what `to_json` wrote."""
        return cls(Plan.from_json(values["plan"]), {str(k): int(v) for k, v in values["peaks_bytes"].items()})
