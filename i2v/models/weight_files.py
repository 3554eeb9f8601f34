"""Which files a model's weights are loaded from, and what reading them will take of the disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from i2v.families.spec import FamilySpec
from i2v.hardware.disk import cold_bytes
from i2v.messages import UserError
from i2v.models.fetch.record import Fetched, read_record
from i2v.models.gguf_files import gguf_of
from i2v.models.verify import SAFETENSORS, components_in, find_weights
from i2v.plan import Precision

IMPORTED = "import"
"""The route of files that were brought from another folder: written down as they came, and compared with nothing."""


@dataclass(frozen=True)
class Reading:
    """Of the files of one component: `cold_bytes` of them are not in RAM now, and `as_published` says that each holds
    what was published."""

    cold_bytes: int
    as_published: bool


def weight_files(folder: Path, spec: FamilySpec, precision: Precision) -> Mapping[str, tuple[Path, ...]]:
    """By component, the files that its weights are loaded from in this precision. Of what cannot be read there are
    none; shards are named as their index lists them, whether they are there or not."""
    return {
        name: _files(folder / name, names, gguf=name in spec.gguf_components, half=precision != "float32")
        for name, names in components_in(folder, spec).items()
    }


def heaviest(files: Mapping[str, Sequence[Path]]) -> tuple[Path, ...]:
    """The files of the component that has most on the disk, the largest first; none where there are none."""
    sized = {name: {file: size for file in own if (size := _size(file))} for name, own in files.items()}
    most = max(sized.values(), key=lambda own: sum(own.values()), default={})
    return tuple(sorted(most, key=lambda file: (-most[file], file)))


def readings(folder: Path, spec: FamilySpec, precision: Precision) -> Mapping[str, Reading]:
    """What loading each component would read."""
    record = read_record(folder)
    return {
        name: Reading(
            sum(cold_bytes(file) for file in own), bool(own) and all(as_published(file, folder, record) for file in own)
        )
        for name, own in weight_files(folder, spec, precision).items()
    }


def as_published(file: Path, folder: Path, record: Fetched | None) -> bool:
    """Whether a file of the model in `folder` was found to be what its publisher put up, and nobody wrote to it
    since."""
    if record is None or record.route == IMPORTED or not file.is_relative_to(folder):
        return False
    known = record.file(file.relative_to(folder).as_posix())
    return known is not None and known.unchanged(folder)


def _files(component: Path, names: Sequence[str], *, gguf: bool, half: bool) -> tuple[Path, ...]:
    weights = [name for name in names if name.endswith(SAFETENSORS)]
    try:
        if weights and gguf and (file := gguf_of(component)) is not None:
            return (file,)
        return tuple(file for name in weights for file in find_weights(component, name, half=half))
    except (OSError, UserError):  # told where the model is looked at
        return ()


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0
