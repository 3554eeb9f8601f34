"""What dry runs found, as plain data that needs no torch: asked by shape and plan, kept in the shipped table and in a
cache beside it."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, astuple, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from i2v.plan import Plan
from i2v.planning.work import NO_WORK, Work
from i2v.request import GenerationRequest

log = logging.getLogger(__name__)

PACKAGE = Path(__file__).resolve().parents[1]
TABLE = Path(__file__).with_name("table.json")
# What a dry run executes: a change in here makes everything found before it void.
_FOLLOWED = tuple(f"planning/{name}.py" for name in ("dryrun", "tracker", "shortcuts", "work"))
_CONFIGS = ("families/*/configs/*/*.json", "assets/nano/*/config.json")
SOURCES = ("families/*.py", "families/*/*.py", "memory/*.py", *_FOLLOWED, *_CONFIGS)


@dataclass(frozen=True)
class PhaseRun:
    """One phase, dry: the `components` on the card in it, `activations_bytes` at its worst moment beyond their
    weights, `copies_bytes` more where convolutions copy their input, and its work: what is done once, and what every
    denoising step does."""

    name: str
    components: tuple[str, ...]
    activations_bytes: int
    copies_bytes: int
    once: Work
    each: Work = NO_WORK

    def work(self, steps: int) -> Work:
        """All of it for a run of so many steps."""
        return self.once + self.each * steps

    def with_slack(self, slack: float) -> PhaseRun:
        """The same with so many times the activations."""
        more = int(self.activations_bytes * slack), int(self.copies_bytes * slack)
        return replace(self, activations_bytes=more[0], copies_bytes=more[1])

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
    `precision` is single or half, as both halves weigh the same,
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
            precision="single" if plan.precision == "float32" else "half",
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

    def covers(self, other: Question) -> bool:
        """Whether this is `other` with a picture as large or larger and as many frames or more."""
        same = replace(self, width=other.width, height=other.height, frames=other.frames) == other
        return same and self.width >= other.width and self.height >= other.height and self.frames >= other.frames

    @property
    def volume(self) -> int:
        """Pixels of the whole clip."""
        return self.width * self.height * self.frames


class Known:
    """The shipped table and this machine's cache, by question. Reading takes no torch."""

    def __init__(self, cache_path: Path | None = None, table_path: Path = TABLE) -> None:
        self._cache_path = cache_path
        self._found = _read(table_path)
        if cache_path is not None:
            self._found |= _read(cache_path)

    def __iter__(self) -> Iterator[Question]:
        return iter(self._found)

    def get(self, question: Question) -> Found | None:
        """What exactly this question's dry run found, if it was ever asked."""
        return self._found.get(question)

    def bound(self, question: Question, slack: float = 1.0) -> Found | None:
        """What the smallest larger known job holds, times the family's `slack`: never less than this one will."""
        larger = [known for known in self._found if known.covers(question)]
        if not larger:
            return None
        found = self._found[min(larger, key=lambda known: known.volume)]
        return replace(found, phases=tuple(phase.with_slack(slack) for phase in found.phases))

    def add(self, found: Mapping[Question, Found]) -> None:
        """Remember, here and in the cache file; a file that cannot be written costs a dry run another time, no more."""
        self._found |= found
        if self._cache_path is None:
            return
        try:
            everything = _read(self._cache_path) | found
            self._cache_path.parent.mkdir(parents=True, exist_ok=True)
            partial = self._cache_path.with_suffix(".partial")
            partial.write_text(dump(everything), encoding="utf-8")
            partial.replace(self._cache_path)
        except OSError as error:
            log.warning("What the dry run found is not kept: %s", error)


@cache
def source_hash() -> str:
    """A digest of the code that dry runs execute."""
    digest = hashlib.sha256()
    for pattern in SOURCES:
        for path in sorted(PACKAGE.glob(pattern)):
            if path.name != "spec.py":
                digest.update(path.relative_to(PACKAGE).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def dump(found: Mapping[Question, Found]) -> str:
    """The text of a table. Phases and weights that many rows share stand in it once."""
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
    return f'{{"source": "{source_hash()}",\n{lists}}}\n'


def _read(path: Path) -> dict[Question, Found]:
    """A table's rows; none where it is missing, of other code, or not to be read. It is then made anew in time."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["source"] != source_hash():
            return {}
        weights = [{str(name): int(size) for name, size in one.items()} for one in values["weights"]]
        phases = [PhaseRun.from_json(phase) for phase in values["phases"]]
        return {
            Question(*row[:-2]): Found(tuple(phases[n] for n in row[-1]), weights[row[-2]]) for row in values["rows"]
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        log.warning("%s cannot be read and is left aside: %s", path, error)
        return {}


def _rounded(value: Any) -> Any:
    """Work to four digits: it is a prediction, and the table is read by people and git."""
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(inner) for inner in value]
    if isinstance(value, float) and value:
        return round(value, 3 - math.floor(math.log10(abs(value))))
    return value
