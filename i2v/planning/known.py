"""What dry runs found, as plain data that needs no torch: asked by shape and plan, kept in the shipped table and in
this machine's cache.

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
from collections.abc import Iterator, Mapping
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from typing import Any

from i2v.families import SPECS
from i2v.plan import Plan
from i2v.planning.code_key import code_key
from i2v.planning.work import NO_WORK, Work
from i2v.request import GenerationRequest
from i2v.whole_file import write_whole

log = logging.getLogger(__name__)

TABLE = Path(__file__).with_name("table.json")
DIGITS = 4  # that a table keeps of work: it is a prediction, and the table is read by people and git

_ONE_WRITER = threading.Lock()  # the cache file is read, added to and written again


@dataclass(frozen=True)
class Held:
    """What a phase held beside its weights at its worst moment; the figures of `PhaseRun`, whose names they bear."""

    activations_bytes: int
    copies_bytes: int
    unused_bytes: int
    unused_segments_bytes: int


@dataclass(frozen=True)
class PhaseRun:
    """One phase, dry: the `components` on the card in it, `activations_bytes` at its worst moment beyond their
    weights, `copies_bytes` more where convolutions copy their input, `unused_bytes` more that torch's allocator needs
    with expandable segments, `unused_segments_bytes` without; and its work: what is done once, and what
    every denoising step does."""

    name: str
    components: tuple[str, ...]
    activations_bytes: int
    copies_bytes: int
    unused_bytes: int
    unused_segments_bytes: int
    once: Work
    each: Work = NO_WORK

    def work(self, calls: int) -> Work:
        """All of it for a run in which the network is called so many times."""
        return self.once + self.each * calls

    def with_slack(self, slack: float) -> PhaseRun:
        """The same with so many times the activations, and all that goes with them."""
        names = ("activations_bytes", "copies_bytes", "unused_bytes", "unused_segments_bytes")
        return replace(self, **{name: int(getattr(self, name) * slack) for name in names})

    def to_json(self) -> dict[str, Any]:
        values = asdict(self)
        return values if self.each != NO_WORK else {**values, "each": None}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> PhaseRun:
        return cls(
            name=str(values["name"]),
            components=tuple(values["components"]),
            activations_bytes=int(values["activations_bytes"]),
            copies_bytes=int(values["copies_bytes"]),
            unused_bytes=int(values.get("unused_bytes", 0)),
            unused_segments_bytes=int(values.get("unused_segments_bytes", 0)),
            once=Work.from_json(values["once"]),
            each=NO_WORK if values["each"] is None else Work.from_json(values["each"]),
        )


@dataclass(frozen=True)
class Found:
    """One dry run: the phases in order and the bytes of every component's weights."""

    phases: tuple[PhaseRun, ...]
    weights: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        return {"phases": [phase.to_json() for phase in self.phases], "weights": dict(self.weights)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Found:
        phases = tuple(PhaseRun.from_json(phase) for phase in values["phases"])
        return cls(phases, {str(name): int(size) for name, size in values["weights"].items()})


@dataclass(frozen=True, order=True)
class Question:
    """All that a dry run depends on. `model` is the family's name, or with its own configuration the digest of that;
    `precision` is single or half, as both halves weigh the same, or wide: half with convolutions in float32;
    and `weights` full or eight bits, for the same reason;
    `guided` tells whether guidance asks for a second pass."""

    model: str
    precision: str
    weights: str
    guided: bool
    cfg: str
    chunk_frames: int
    chunk_pixels: int
    decode_frames: int
    width: int
    height: int
    frames: int

    @classmethod
    def of(cls, model: str, request: GenerationRequest, plan: Plan) -> Question:
        guided = request.guidance_scale > 1
        return cls(
            model=model,
            precision="single" if plan.precision == "float32" else "wide" if plan.wide_convolutions else "half",
            weights="full" if plan.weights == "full" else "eight bits",
            guided=guided,
            cfg=plan.cfg if guided else "split",  # one pass is one pass
            chunk_frames=plan.chunk_frames,
            chunk_pixels=plan.chunk_pixels,
            decode_frames=plan.decode_frames,
            width=request.width,
            height=request.height,
            frames=request.num_frames,
        )

    @property
    def family(self) -> str:
        """The name of the model's family."""
        return self.model.partition(":")[0]

    def covers(self, other: Question) -> bool:
        """Whether this is `other` with a picture as large or larger and as many frames or more."""
        same = replace(self, width=other.width, height=other.height, frames=other.frames) == other
        return same and self.width >= other.width and self.height >= other.height and self.frames >= other.frames

    @property
    def volume(self) -> int:
        """Pixels of the whole clip."""
        return self.width * self.height * self.frames


class Known:
    """The shipped table and this machine's cache, by question. Reading takes no torch. May be asked and added to from
    any thread: the mapping of what is known is never changed, only replaced by a larger one."""

    def __init__(self, cache_path: Path | None = None, table_path: Path = TABLE) -> None:
        self._cache_path = cache_path
        self._found: Mapping[Question, Found] = _read(table_path)[0]
        if cache_path is not None:
            self._found = {**self._found, **_read_cache(cache_path)}

    def __iter__(self) -> Iterator[Question]:
        return iter(self._found)

    def get(self, question: Question) -> Found | None:
        """What exactly this question's dry run found, if it was ever asked."""
        return self._found.get(question)

    def bound(self, question: Question, slack: float = 1.0) -> Found | None:
        """What the smallest larger known job holds, times the family's `slack`: never less than this one will."""
        known = self._found
        larger = [one for one in known if one.covers(question)]
        if not larger:
            return None
        found = known[min(larger, key=lambda one: one.volume)]
        return replace(found, phases=tuple(phase.with_slack(slack) for phase in found.phases))

    def add(self, found: Mapping[Question, Found]) -> None:
        """Remember, here and in the cache file; a file that cannot be written costs a dry run another time, no more.
        The same holds for what another program writes to the file at this very moment."""
        with _ONE_WRITER:
            self._found = {**self._found, **found}
            if self._cache_path is None or not found:
                return
            try:
                text = dump_cache({**_read_cache(self._cache_path), **found})
                self._cache_path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(self._cache_path, text)
            except OSError as error:
                log.warning("What the dry run found is not kept: %s", error)


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
        rows.append([*astuple(question), number("weights", dict(one.weights)), phases])
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
        weights = [{str(name): int(size) for name, size in one.items()} for one in values["weights"]]
        phases = [PhaseRun.from_json(phase) for phase in values["phases"]]
        rows = {
            Question(str(model), *rest): Found(tuple(phases[n] for n in numbers), weights[number])
            for model, *rest, number, numbers in values["rows"]
        }
        return rows, keys
    except FileNotFoundError:
        return {}, {}
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        log.warning("%s cannot be read and is left aside: %s", path, error)
        return {}, {}


def _rounded(value: Any) -> Any:
    """Work to DIGITS digits."""
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(inner) for inner in value]
    if isinstance(value, float) and value:
        return round(value, DIGITS - 1 - math.floor(math.log10(abs(value))))
    return value
