"""What lies on the disk: of which family a folder is a checkpoint, in which forms and precision its weights are, and
what it lacks. By names, JSON and headers alone, in milliseconds; no weight is read and no torch needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

from i2v.families import SPECS
from i2v.families.spec import FamilySpec
from i2v.messages import Message, UserError, message
from i2v.models.config_matches import mismatch
from i2v.models.gguf_files import gguf_of
from i2v.models.hub_cache import newest_snapshot
from i2v.models.links import check_links
from i2v.models.not_models import refusal
from i2v.models.verify import (
    FLOATS,
    SAFETENSORS,
    components_in,
    find_weights,
    has_marks,
    problems_of,
    raw_header,
    read_class_name,
)

DENOISERS = ("unet", "transformer", "transformer_2")
Form = Literal["full", "fp16", "gguf"]
_PRECISIONS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


@dataclass(frozen=True)
class ModelKind:
    """What a folder is. `family` is None for what is no checkpoint of any. `folder`: where its index is. `forms`: in
    which its denoiser lies there, of which the fp16 one is loaded in half precision; `sharded`: whether one of them is
    in several files. `precision`: in what most of the denoiser's numbers are stored, as torch calls it, or by
    safetensors' or GGUF's own word. `problems`: all that keeps it from being used."""

    folder: Path
    family: str | None = None
    class_name: str | None = None
    forms: tuple[Form, ...] = ()
    sharded: bool = False
    precision: str | None = None
    problems: tuple[Message, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether it can be used."""
        return self.family is not None and not self.problems

    @property
    def missing(self) -> tuple[str, ...]:
        """The files that are not there, from its folder."""
        files = (problem.params["file"] for problem in self.problems if problem.id == "models.missing_file")
        return tuple(Path(str(file)).relative_to(self.folder).as_posix() for file in files)


def kind_of(path: Path, places: Iterable[Path] = ()) -> ModelKind:
    """What lies at `path`: a checkpoint in diffusers layout, a model's folder in a cache of the hub's library, or
    something else, whose one problem then says what. Links in it may lead to `places` too. Raises nothing."""
    folder = newest_snapshot(path) or path
    other = refusal(path)
    if other is not None:
        return ModelKind(path, problems=(other.message,))
    try:
        class_name = read_class_name(folder)
    except UserError as error:
        return ModelKind(folder, problems=(error.message,))
    spec = spec_of(folder, class_name)
    if spec is None:
        known = ", ".join(sorted(spec.title for spec in SPECS.values()))
        problem = message("models.unknown_class", folder=str(folder), found=class_name, known=known)
        return ModelKind(folder, class_name=class_name, problems=(problem,))
    problems = [*_links_astray(folder, places), *(error.message for error in problems_of(folder, spec))]
    forms, sharded, precision = _weights(folder, spec)
    if not problems:
        problems += _unfit(folder, spec)
    return ModelKind(folder, spec.name, class_name, forms, sharded, precision, tuple(problems))


def spec_of(folder: Path, class_name: str | None = None) -> FamilySpec | None:
    """The family whose checkpoint is in `folder`, the one that says most of it; None where it is of none."""
    if class_name is None:
        try:
            class_name = read_class_name(folder)
        except UserError:
            return None
    fitting = (spec for spec in SPECS.values() if spec.is_of(class_name) and has_marks(folder, spec))
    return max(fitting, key=lambda spec: len(spec.marks), default=None)


def _links_astray(folder: Path, places: Iterable[Path]) -> tuple[Message, ...]:
    try:
        check_links(folder, places)
    except UserError as error:
        return (error.message,)
    return ()


def _weights(folder: Path, spec: FamilySpec) -> tuple[tuple[Form, ...], bool, str | None]:
    """In which forms the denoiser lies there, whether in shards, and the precision of the one loaded first."""
    component = next((name for name in DENOISERS if name in spec.components), None)
    if component is None:
        return (), False, None
    name = next(name for name in spec.components[component] if name.endswith(SAFETENSORS))
    try:
        if component in spec.gguf_components and (file := gguf_of(folder / component)) is not None:
            return ("gguf",), False, _gguf_kind(file)
        full = find_weights(folder / component, name)
        half = find_weights(folder / component, name, half=True)
        forms: list[Form] = []
        if full and not full[0].name.startswith(f"{name.removesuffix(SAFETENSORS)}.fp16"):
            forms.append("full")
        if half and (half != full or not forms):
            forms.append("fp16")
        precision = _precision(half[0]) if half else None
    except (OSError, UserError):  # told among the problems
        return (), False, None
    return tuple(forms), len(full) > 1 or len(half) > 1, precision


def _precision(file: Path) -> str:
    """In what most numbers of a file are stored."""
    numbers: Counter[str] = Counter()
    for tensor in raw_header(file).values():
        numbers[tensor["dtype"]] += prod(tensor["shape"])
    most = numbers.most_common(1)
    return _PRECISIONS.get(most[0][0], most[0][0]) if most else "?"


def _gguf_kind(file: Path) -> str:
    """The kind of quantisation in a GGUF file's name, which its authors put there: reading it takes a package."""
    return next((word for word in reversed(file.stem.replace("-", ".").split(".")) if word[:1] in "QFBI"), "gguf")


def _unfit(folder: Path, spec: FamilySpec) -> Iterator[Message]:
    """What is wrong with whole files: they are stored in a way that is not read, or another model's."""
    for component, names in components_in(folder, spec).items():
        name = next((name for name in names if name.endswith(SAFETENSORS)), None)
        config = folder / component / "config.json"
        if name is None or not config.is_file():
            continue
        shapes: dict[str, Sequence[int]] = {}
        for file in find_weights(folder / component, name, half=True):
            header = raw_header(file)
            shapes |= {name: tensor["shape"] for name, tensor in header.items()}
            if component in DENOISERS and (stored := _quantised(file, header)) is not None:
                yield stored
                return
        if (other := mismatch(config, shapes)) is not None:
            yield other


def _quantised(file: Path, header: Mapping[str, Mapping[str, Any]]) -> Message | None:
    """That a weight is stored in a way that only the program knows that wrote it; None where none is."""
    for name, tensor in header.items():
        if len(tensor["shape"]) > 1 and tensor["dtype"] not in FLOATS:
            known = ", ".join(FLOATS)
            return message("models.tensor_kind", file=str(file), tensor=name, kind=tensor["dtype"], known=known)
    return None
