"""What dry runs found, as plain data that needs no torch: asked by phase, shape and what the plan says of that phase,
kept in the shipped table and in this machine's cache. A job is the sum of its phases (`joined`), so that what one plan
has asked of a phase serves every other that leaves it as it is.

The shipped table holds for the code it ships with: tests run a few of its rows dry again, and fail where bytes or work
are no longer what it says. With other versions of torch, diffusers or transformers than it was made with it still
serves, since what a dry run finds hardly depends on them. The cache holds what this machine ran dry, by whatever code
and versions it had then, so each family's rows stand under its `code_key` and count only while that is the same.
"""

from __future__ import annotations

import json
import logging
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from i2v.families import SPECS
from i2v.families.denoising import denoises
from i2v.plan import Plan
from i2v.planning.code_key import code_key
from i2v.planning.work import NO_WORK, Work
from i2v.request import GenerationRequest
from i2v.whole_file import write_whole

log = logging.getLogger(__name__)

PHASES = ("encode", "denoise", "decode")
"""The engine's, in order; all of encode's stages are one."""
TABLE = Path(__file__).with_name("table.json")
DIGITS = 4  # that a table keeps of work: it is a prediction, and the table is read by people and git

ADAPTERS_SLACK = 1.07
"""What activations of denoising are multiplied by where LoRAs are on the network: what a layer with one makes stands
beside its own output for a moment. 1.06 for HunyuanVideo's with LoRAs on all of its linear layers, 1 where they are on
its attention alone (tests/planning/test_adapters_foretold.py)."""

_ONE_WRITER = threading.Lock()  # the cache file is read, added to and written again


@dataclass(frozen=True)
class Held:
    """What a phase held beside its weights at its worst moment; the figures of `PhaseRun`, whose names they bear."""

    activations_bytes: int
    copies_bytes: int
    cudnn_bytes: int
    unused_bytes: int
    unused_segments_bytes: int


LEVELS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_"
"""How a table writes shares of a pass, a sign for each; the largest share is the last sign."""


@dataclass(frozen=True)
class BlockPasses:
    """How a component with blocks ran in a phase: how often through all of them (in each step of denoising), and how
    the computing was spread: `shares` has a sign of LEVELS for each block in order, and one for what is in none."""

    passes: int
    shares: str

    def spread(self, seconds: float) -> list[float]:
        """`seconds` of one pass, for each block and last for all that is in none."""
        levels = [LEVELS.index(sign) for sign in self.shares]
        return [seconds * level / max(1, sum(levels)) for level in levels]


@dataclass(frozen=True)
class BlockBytes:
    """What a component that can stream has on a card: of each block, and of what is in none and always stays."""

    sizes: tuple[int, ...]
    outside: int

    def grown(self, size_bytes: int) -> BlockBytes:
        """The same with so many bytes more, spread over the blocks by their size and rounded up."""
        total = sum(self.sizes)
        return replace(self, sizes=tuple(size + -(-size_bytes * size // total) for size in self.sizes))


@dataclass(frozen=True)
class PhaseRun:
    """One phase, dry: the `components` on the card in it, `activations_bytes` at its worst moment beyond their
    weights, `copies_bytes` more for convolutions on a processor, `cudnn_bytes` more for them on a card, `unused_bytes`
    more that torch's allocator needs with expandable segments, `unused_segments_bytes` without; and its work: what is
    done once, and what every denoising step does. `passes`: of the components that have blocks."""

    name: str
    components: tuple[str, ...]
    activations_bytes: int
    copies_bytes: int
    cudnn_bytes: int
    unused_bytes: int
    unused_segments_bytes: int
    once: Work
    each: Work = NO_WORK
    passes: Mapping[str, BlockPasses] = field(default_factory=dict)

    def work(self, calls: int) -> Work:
        """All of it for a run in which the network is called so many times."""
        return self.once + self.each * calls

    def repeated(self, times: float) -> PhaseRun:
        """The same holding as much, for work that is done so many times: in each denoising step, or once."""
        passes = {name: replace(one, passes=round(one.passes * times)) for name, one in self.passes.items()}
        if self.each != NO_WORK:
            return replace(self, each=self.each * times, passes=passes)
        return replace(self, once=self.once * times, passes=passes)

    def with_slack(self, slack: float) -> PhaseRun:
        """The same with so many times the activations, and all that goes with them."""
        names = ("activations_bytes", "copies_bytes", "cudnn_bytes", "unused_bytes", "unused_segments_bytes")
        return replace(self, **{name: int(getattr(self, name) * slack) for name in names})

    def to_json(self) -> dict[str, Any]:
        each = None if self.each == NO_WORK else self.each.to_json()
        return {**asdict(self), "once": self.once.to_json(), "each": each}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> PhaseRun:
        return cls(
            name=str(values["name"]),
            components=tuple(values["components"]),
            activations_bytes=int(values["activations_bytes"]),
            copies_bytes=int(values["copies_bytes"]),
            cudnn_bytes=int(values.get("cudnn_bytes", 0)),
            unused_bytes=int(values.get("unused_bytes", 0)),
            unused_segments_bytes=int(values.get("unused_segments_bytes", 0)),
            once=Work.from_json(values["once"]),
            each=NO_WORK if values["each"] is None else Work.from_json(values["each"]),
            passes={str(name): BlockPasses(**one) for name, one in values.get("passes", {}).items()},
        )


@dataclass(frozen=True)
class Found:
    """One dry run: its phases in order, the bytes of every component's weights, and those of blocks where it has
    some; no weights where denoising is not among the phases. `added`: bytes among these that LoRAs add to a component,
    and that lie in none of its own files."""

    phases: tuple[PhaseRun, ...]
    weights: Mapping[str, int]
    blocks: Mapping[str, BlockBytes] = field(default_factory=dict)
    added: Mapping[str, int] = field(default_factory=dict)

    @property
    def denoising(self) -> tuple[PhaseRun, ...]:
        """The phases in which a network takes noise away."""
        return tuple(run for run in self.phases if engine_phase(run.name) == "denoise" and denoises(run.name))

    def with_adapters(self, size_bytes: int) -> Found:
        """The same with LoRAs of so many bytes on each component that denoises, spread over its blocks by their
        size."""
        denoising = self.denoising
        added = {name: size_bytes for run in denoising for name in run.components}
        return Found(
            phases=tuple(run.with_slack(ADAPTERS_SLACK) if run in denoising else run for run in self.phases),
            weights={name: size + added.get(name, 0) for name, size in self.weights.items()},
            blocks={name: one.grown(added.get(name, 0)) for name, one in self.blocks.items()},
            added=added,
        )

    def with_held(self, size_bytes: int) -> Found:
        """The same with so many bytes more held all through denoising."""
        phases = (
            replace(run, activations_bytes=run.activations_bytes + size_bytes)
            if engine_phase(run.name) == "denoise"
            else run
            for run in self.phases
        )
        return replace(self, phases=tuple(phases))

    def weights_json(self) -> dict[str, Any]:
        """What does not depend on the job."""
        blocks = {name: [one.outside, *one.sizes] for name, one in self.blocks.items()}
        return {"bytes": dict(self.weights), "blocks": blocks}

    def to_json(self) -> dict[str, Any]:
        return {"phases": [phase.to_json() for phase in self.phases], "weights": self.weights_json()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Found:
        phases = tuple(PhaseRun.from_json(phase) for phase in values["phases"])
        return cls(phases, *_weights_of(values["weights"]))

    def part(self, phase: str) -> Found:
        """What it says of one of PHASES. Weights stand with denoising, since its plan says how they are stored."""
        phases = tuple(run for run in self.phases if engine_phase(run.name) == phase)
        return replace(self, phases=phases) if phase == "denoise" else Found(phases, {})


def engine_phase(name: str) -> str:
    """The engine's phase that a dry run's phase is part of."""
    phase = name.partition(".")[0]  # denoising may have parts
    return phase if phase in PHASES else "encode"


def joined(parts: Sequence[Found], shares: Mapping[str, float] = MappingProxyType({})) -> Found:
    """A dry run of a whole job from those of its phases, in the order of PHASES. `shares`: how many times the work of
    each phase it takes where the clip is longer than the one that was run; see `FamilySpec.shares`."""
    runs = (run for part in parts for run in part.phases)
    phases = tuple(run.repeated(shares.get(engine_phase(run.name), 1)) for run in runs) if shares else tuple(runs)
    return replace(parts[PHASES.index("denoise")], phases=phases)


@dataclass(frozen=True, order=True)
class Question:
    """All that a dry run of one phase depends on. `model` is the family's name, or with its own configuration the
    digest of that; `precision` is single or half, as both halves weigh the same, or wide: half with convolutions in
    float32; and `weights`, the denoiser's, full or eight bits, for the same reason; `guided` tells whether guidance
    asks for a second pass; `knobs` holds what the plan says of what the family may do in parts in this phase, of a
    family that has several tasks which of them it is, how many inputs it has that it could do without, and whether it
    is made in two stages. `frames`: of every clip that is made in windows, those of one with two."""

    model: str
    phase: str
    precision: str
    weights: str
    guided: bool
    knobs: str
    width: int
    height: int
    frames: int

    @classmethod
    def of(cls, model: str, request: GenerationRequest, plan: Plan, phase: str) -> Question:
        """What `request` under `plan` asks of one of PHASES."""
        spec = SPECS[model.partition(":")[0]]
        denoising, guided = phase == "denoise", spec.is_guided(request)
        if not guided:
            plan = replace(plan, cfg="split")  # one pass is one pass
        knobs = [f"{name}={getattr(plan, name)}" for name in spec.knobs.get(phase, ())]
        if spec.audio_rate and phase != "encode":  # it says how long the sound is
            knobs.append(f"fps={request.fps}")
        if len(spec.tasks) > 1 and phase != "decode":
            knobs.append(f"task={request.task}")
        if phase != "decode" and (added := spec.added(request)):
            knobs.append(f"added={added}")
        if phase != "decode" and request.two_stages:
            knobs.append("two_stages")
        if denoising and spec.step_cache and plan.step_cache:  # what is kept is the same for any share
            knobs.append("step_cache")
        return cls(
            model=model,
            phase=phase,
            precision="single" if plan.precision == "float32" else "wide" if plan.wide_convolutions else "half",
            weights="eight bits" if denoising and plan.weights != "full" else "full",
            guided=guided and phase != "decode",
            knobs=" ".join(knobs),
            width=request.width,
            height=request.height,
            frames=spec.dry_frames(request.num_frames),
        )

    @classmethod
    def all_of(cls, model: str, request: GenerationRequest, plan: Plan) -> tuple[Question, ...]:
        """The questions of a whole job, in the order of PHASES."""
        return tuple(cls.of(model, request, plan, phase) for phase in PHASES)

    @property
    def family(self) -> str:
        """The name of the model's family."""
        return self.model.partition(":")[0]

    @property
    def in_windows(self) -> bool:
        """Whether its clip is made window by window."""
        longer = SPECS[self.family].longer
        return longer is not None and longer.is_long(self.frames)

    @property
    def without_size(self) -> tuple[Any, ...]:
        """All but the picture's size and the number of frames."""
        return self.model, self.phase, self.precision, self.weights, self.guided, self.knobs

    def covers(self, other: Question) -> bool:
        """Whether this is `other` with a picture as large or larger and as many frames or more. A clip that is made in
        windows says nothing of one that is made at once: the one has on the host what the other has on the card."""
        if self.in_windows != other.in_windows:
            return False
        larger = self.width >= other.width and self.height >= other.height and self.frames >= other.frames
        return larger and self.without_size == other.without_size

    @property
    def volume(self) -> int:
        """Pixels of the whole clip."""
        return self.width * self.height * self.frames


class Known:
    """The shipped table and this machine's cache, by question. Reading takes no torch. May be asked and added to from
    any thread: the mapping of what is known is never changed, only replaced by a larger one."""

    def __init__(self, cache_path: Path | None = None, table_path: Path = TABLE) -> None:
        self._cache_path = cache_path
        found = _read(table_path)[0]
        if cache_path is not None:
            found |= _read_cache(cache_path)
        self._known: tuple[Mapping[Question, Found], Mapping[tuple[Any, ...], list[Question]]] = found, _by_plan(found)

    def __iter__(self) -> Iterator[Question]:
        return iter(self._known[0])

    def get(self, question: Question) -> Found | None:
        """What exactly this question's dry run found, if it was ever asked."""
        return self._known[0].get(question)

    def whole(self, model: str, request: GenerationRequest, plan: Plan) -> Found | None:
        """What exactly this job's dry runs found, if all of its phases were ever asked."""
        questions = Question.all_of(model, request, plan)
        parts = [self.get(question) for question in questions]
        shares = SPECS[questions[0].family].shares(request.num_frames)
        return joined([one for one in parts if one], shares) if all(parts) else None

    def bound(self, question: Question, slack: float = 1.0) -> Found | None:
        """What the smallest larger known job holds, times the family's `slack`: never less than this one will."""
        known, by_plan = self._known
        larger = next((one for one in by_plan.get(question.without_size, ()) if one.covers(question)), None)
        if larger is None:
            return None
        found = known[larger]
        return replace(found, phases=tuple(phase.with_slack(slack) for phase in found.phases))

    def add(self, found: Mapping[Question, Found]) -> None:
        """Remember, here and in the cache file; a file that cannot be written costs a dry run another time, no more.
        The same holds for what another program writes to the file at this very moment."""
        with _ONE_WRITER:
            everything = {**self._known[0], **found}
            self._known = everything, _by_plan(everything)
            if self._cache_path is None or not found:
                return
            try:
                text = dump_cache({**_read_cache(self._cache_path), **found})
                self._cache_path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(self._cache_path, text)
            except OSError as error:
                log.warning("What the dry run found is not kept: %s", error)


def _by_plan(found: Mapping[Question, Found]) -> dict[tuple[Any, ...], list[Question]]:
    """The questions that differ in size alone together, the smallest clip first."""
    together: dict[tuple[Any, ...], list[Question]] = {}
    for question in sorted(found, key=lambda one: one.volume):
        together.setdefault(question.without_size, []).append(question)
    return together


def dump_cache(found: Mapping[Question, Found]) -> str:
    """The text of a cache: a table that names the key of every family in it."""
    return dump(found, {"keys": {family: code_key(family) for family in sorted({one.family for one in found})}})


def dump(found: Mapping[Question, Found], head: Mapping[str, Any]) -> str:
    """The text of a table, which begins with `head`. Phases and weights that many rows share stand in it once."""
    shared: dict[str, list[str]] = {"weights": [], "phases": []}
    numbers: dict[tuple[str, str], int] = {}

    def number(kind: str, value: Any) -> int:
        text = json.dumps(_rounded(value), separators=(",", ":"))
        if (kind, text) not in numbers:
            numbers[kind, text] = len(shared[kind])
            shared[kind].append(text)
        return numbers[kind, text]

    rows = []
    for question in sorted(found):
        one = found[question]
        phases = [number("phases", phase.to_json()) for phase in one.phases]
        rows.append([*astuple(question), number("weights", one.weights_json()), phases])
    parts = {**shared, "rows": [json.dumps(row, separators=(",", ":")) for row in rows]}
    lists = ",\n".join('"{}": [\n{}\n]'.format(name, ",\n".join(lines)) for name, lines in parts.items())
    first = json.dumps(head)[1:-1]
    return f"{{{first},\n{lists}}}\n"


def _read_cache(path: Path) -> dict[Question, Found]:
    """The rows of a cache whose family's key is what it was when they were found."""
    rows, keys = _read(path)
    good = {family for family, key in keys.items() if family in SPECS and key == code_key(family)}
    return {question: found for question, found in rows.items() if question.family in good}


def _read(path: Path) -> tuple[dict[Question, Found], dict[str, str]]:
    """The rows of a table, and its keys by family where it is a cache; none where it is missing or not to be read. It
    is then made anew in time."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        keys = {str(family): str(key) for family, key in values.get("keys", {}).items()}
        weights = [_weights_of(one) for one in values["weights"]]
        phases = [PhaseRun.from_json(phase) for phase in values["phases"]]
        rows = {
            Question(str(model), *rest): Found(tuple(phases[n] for n in numbers), *weights[number])
            for model, *rest, number, numbers in values["rows"]
        }
        return rows, keys
    except FileNotFoundError:
        return {}, {}
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        log.warning("%s cannot be read and is left aside: %s", path, error)
        return {}, {}


def _weights_of(values: Mapping[str, Any]) -> tuple[dict[str, int], dict[str, BlockBytes]]:
    """What `Found.weights_json` wrote."""
    blocks = {
        str(name): BlockBytes(tuple(int(size) for size in sizes), int(outside))
        for name, (outside, *sizes) in values["blocks"].items()
    }
    return {str(name): int(size) for name, size in values["bytes"].items()}, blocks


def _rounded(value: Any) -> Any:
    """Work to DIGITS digits."""
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(inner) for inner in value]
    if isinstance(value, float) and value:
        return round(value, DIGITS - 1 - math.floor(math.log10(abs(value))))
    return value
