"""How a request is run: every decision about placement and chunking, nothing about the picture itself; and what that
will hold and take, as predicted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from i2v.units import GIB
from i2v.vae_window import OWN

Precision = Literal["float32", "float16", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = ("float32", "float16", "bfloat16")

CfgMode = Literal["batch", "split"]
CFG_MODES: tuple[CfgMode, ...] = ("batch", "split")

Offload = Literal["resident", "staged", "streamed"]
OFFLOADS: tuple[Offload, ...] = ("resident", "staged", "streamed")

Weights = Literal["full", "float8", "int8"]

Attention = Literal["native", "flash", "sage", "xformers"]
ATTENTIONS: tuple[Attention, ...] = ("native", "flash", "sage", "xformers")

Verdict = Literal["fits", "tight", "wont_fit"]

Policy = Literal["lossless", "balanced", "smallest"]
POLICIES: tuple[Policy, ...] = ("lossless", "balanced", "smallest")


EVERYTHING = "*"
"""Stands for every component that a plan does not name."""


@dataclass(frozen=True)
class Placement:
    """Where the weights of one component are.

    `residency`: "resident" on the card for the whole run; "staged" while a phase needs them; "streamed": then too, but
    block by block, and only so many blocks stay as `kept_bytes` has room for, while the others take turns in `slots`
    places. What has no blocks is staged instead. On a processor "streamed" is what it computes with as the system reads
    it from the files, where these hold it as it is wanted."""

    component: str
    residency: Offload
    kept_bytes: int = 0
    slots: int = 2

    @property
    def holds(self) -> float:
        """Larger where it holds more of the card."""
        return {"resident": math.inf, "staged": 2.0**62}.get(self.residency, float(self.kept_bytes))

    def __str__(self) -> str:
        if self.residency == "streamed" and self.kept_bytes:
            return f"streamed, {self.kept_bytes / GIB:.2f} GiB stay"
        return self.residency


def everywhere(residency: Offload) -> tuple[Placement, ...]:
    """The placements of a plan that treats all components alike."""
    return (Placement(EVERYTHING, residency),)


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
    the figures are those of a larger job, which this one's can not exceed. `finish_seconds`, `finish_bytes`: of what
    is done to decoded frames while they come, by the processor; `ram_peak_bytes` has these bytes in it.
    `read_again_bytes`: of weights that RAM has no room for, so that they are read from the disk in every step, which
    takes `read_again_seconds` of each; `load_bytes` are read from it before the first phase, in `load_seconds`, since
    RAM does not have them now; `disk_measured`: whether the disk's rate was measured."""

    phases: tuple[PhasePrediction, ...]
    context_bytes: int
    margin_bytes: int
    budget_bytes: int
    ram_peak_bytes: int
    ram_free_bytes: int
    disk_bytes: int
    disk_free_bytes: int
    exact: bool = True
    finish_seconds: float = 0.0
    finish_bytes: int = 0
    read_again_bytes: int = 0
    read_again_seconds: float = 0.0
    load_bytes: int = 0
    load_seconds: float = 0.0
    disk_measured: bool = False

    @property
    def peak(self) -> PhasePrediction:
        """The phase that holds most."""
        return max(self.phases, key=lambda phase: phase.peak_bytes)

    @property
    def seconds(self) -> float:
        return self.load_seconds + sum(phase.seconds for phase in self.phases) + self.finish_seconds

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
    `chunk_frames`, `chunk_pixels`, `chunk_tokens`, `decode_frames`: how many at once, 0 means all.
    `decode_rows`: how many rows of latents an autoencoder of videos that works in strips takes at once, 0 means all.
    `places`: where the weights of each component are; `EVERYTHING` names those that it does not.
    `keep_loaded`: whether what was read from the model's files stays in RAM from its first phase to the last; else
    each component is read when a phase needs it and leaves with that phase, from the card too.
    `weights`: how the denoiser's are stored: in `precision`, or in eight bits and widened layer by layer at use, which
    is not lossless.
    `wide_convolutions`: computed in float32 layer by layer, for a card that computes them wrongly in half precision.
    `vae_window`: in which an autoencoder of videos works (`i2v.vae_window`); any other than OWN is not lossless.
    `attention`: which of diffusers' backends a transformer attends with; "sage" computes it in eight bits, which is not
    lossless.
    `step_cache`: by what share the first block of a transformer may change from step to step for the others to be left
    out (`memory.step_cache`); 0 for never, anything else is not lossless.
    `encode_on_host`, `decode_on_host`: those phases computed by the processor, slowly, where the card has no room.
    `memory_cap_bytes`: what the run may hold on the card, or None for all that is free.
    """

    device: Literal["cpu", "cuda", "simulated"] = "cpu"
    precision: Precision = "float32"
    chunk_frames: int = 0
    chunk_pixels: int = 0
    chunk_tokens: int = 0
    cfg: CfgMode = "batch"
    places: tuple[Placement, ...] = everywhere("resident")
    decode_frames: int = 1
    decode_rows: int = 0
    keep_loaded: bool = True
    encode_on_host: bool = False
    decode_on_host: bool = False
    memory_cap_bytes: int | None = None
    preset: str = "cpu"
    lossless: bool = True
    weights: Weights = "full"
    wide_convolutions: bool = False
    attention: Attention = "native"
    vae_window: str = OWN
    step_cache: float = 0.0

    def place(self, component: str) -> Placement:
        """Where the weights of `component` are."""
        own = next((one for one in self.places if one.component == component), None)
        return own or replace(next(one for one in self.places if one.component == EVERYTHING), component=component)

    def stays(self, component: str) -> bool:
        """Whether it is on the card from the first phase to the last."""
        return self.keep_loaded and self.place(component).residency == "resident"

    @property
    def offload(self) -> Offload:
        """What its placements are called as a whole: by the one that holds least."""
        return min(self.places, key=lambda one: one.holds).residency

    def to_json(self) -> dict[str, Any]:
        """This plan as plain JSON values."""
        return {**asdict(self), "places": [asdict(one) for one in self.places]}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Plan:
        """Read back what `to_json` wrote; keys of newer versions are ignored. Before there were placements a plan had
        one `offload` for all components."""
        known = {f.name for f in fields(cls)}
        own = {key: value for key, value in values.items() if key in known}
        if "places" in own:
            own["places"] = tuple(Placement(**one) for one in own["places"])
        elif "offload" in values:
            own["places"] = everywhere(values["offload"])
        return cls(**own)

    def changes(self, before: Plan) -> dict[str, tuple[Any, Any]]:
        """The decisions that differ from `before`: as they were, and as they are here; a placement in words, by the
        name of its component."""
        names = [f.name for f in fields(self) if f.name != "places"]
        changed = {name: (getattr(before, name), getattr(self, name)) for name in names}
        components = dict.fromkeys(one.component for one in (*before.places, *self.places))
        for name in components:
            told = "weights" if name == EVERYTHING else name
            changed[told] = (str(before.place(name)), str(self.place(name)))
        return {name: pair for name, pair in changed.items() if pair[0] != pair[1]}


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
