"""A model of a single file: its weights in the layout of diffusers, and all else from a model that is on this computer
already. Other programs keep the largest part of a model so, and share the rest among many of them."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from i2v.families import SPECS
from i2v.families.spec import FamilySpec
from i2v.messages import UserError
from i2v.models.catalogue import list_models
from i2v.models.entry import ASSETS
from i2v.models.experts import (
    NOISE,
    as_expert,
    has_experts,
    may_be_expert,
    name_without_noise,
    other_expert,
    unknown_expert,
)
from i2v.models.gguf_files import GGUF
from i2v.models.kinds import kind_of, spec_of
from i2v.models.places import places_of
from i2v.models.single_files import CONVERTED, SinglePart
from i2v.models.verify import FLOATS, INDEXES, SAFETENSORS, raw_header
from i2v.units import GIB
from i2v.whole_file import unfinished_path, whole_folder

if TYPE_CHECKING:
    from i2v.settings.settings import Settings

_SPARE_BYTES = GIB // 4

Convert = Callable[[Path, Sequence[Path], Mapping[str, str], Path, Callable[[int], None]], int]
"""Writes the weights; see `engine.converted.convert`."""


@dataclass(frozen=True)
class Base:
    """A model that lends all that a single file does not have. `lasts`: it lies where models are looked for, so that
    links may lead there."""

    name: str
    folder: Path
    spec: FamilySpec
    lasts: bool


@dataclass(frozen=True)
class Making:
    """What a model is made of: a file and the part that it is, the file of the other expert where there is one, and the
    models that may have the rest."""

    file: Path
    part: SinglePart
    bases: Sequence[Base]
    other: Path | None = None

    @property
    def name(self) -> str:
        """What the model is called."""
        return self.file.stem if self.other is None else name_without_noise(self.file)

    @property
    def size_bytes(self) -> int:
        return sum(file.stat().st_size for file in (self.file, self.other) if file is not None)


def making_of(file: Path, part: SinglePart, settings: Settings, said: str = "", named: Path | None = None) -> Making:
    """What can be made of `file`, which is `part`. `said`: which of two experts it is (high, low), where somebody says
    it; else its name does, and the other one beside it is taken as well. `named`: the folder of the model that is to
    have the rest. Raises UserError where that cannot be told, or there is no such model."""
    meant = as_expert(file, part, said, spec_of(named) if named is not None else None)
    other = None if said else other_expert(file, meant)
    if other is not None:
        meant = replace(meant, beside=tuple(one for one in NOISE.values() if one != meant.component))
    large, fits = part.family != "wan", any(_bases(meant, settings, named))
    if may_be_expert(meant) and named is None and (large or not fits):
        if experts := list(_bases(replace(part, family="wan22"), settings, named)):
            raise unknown_expert(file, experts[0].spec)
    elif has_experts(meant.spec) and not (said or large or fits):
        meant, other = part, None  # too small for an expert, whatever it is called
    return Making(file, meant, bases_for(meant, settings, named), other)


def bases_for(part: SinglePart, settings: Settings, named: Path | None = None) -> list[Base]:
    """The models that may have the rest, those of the file's own family first; the one in `named` alone, where that is
    given. Raises UserError where there is none."""
    if part.gguf and part.component not in part.spec.gguf_components:
        raise UserError("models.gguf_not_for", component=part.component, title=part.spec.title)
    found = list(_bases(part, settings, named))
    found.sort(key=lambda base: base.spec.name != part.family)
    if not found:
        spec = part.spec
        missing, hub = ", ".join(part.missing), spec.hub_id or spec.title
        gib = round(spec.download_gib, 1)
        raise UserError(
            "models.single_no_base", component=part.component, title=spec.title, missing=missing, hub=hub, size_gib=gib
        )
    return found


def put_together(
    making: Making, settings: Settings, convert: Convert, on_bytes: Callable[[int], None] = lambda _count: None
) -> tuple[Path, Base]:
    """Make the model in the models folder: where it is, and which of the bases lends the rest. It appears whole or not
    at all, and the files that it is made of stay as they are. Raises UserError."""
    file, part, bases, other = making.file, making.part, making.bases, making.other
    target = settings.models_dir / making.name
    if os.path.lexists(target):
        raise UserError("models.name_taken", name=making.name, folder=str(target))
    for one in (file, other):
        if one is not None and one.suffix != GGUF:
            _refuse_quantised(one)
    try:
        settings.models_dir.mkdir(parents=True, exist_ok=True)
        needed = making.size_bytes + _SPARE_BYTES
        if shutil.disk_usage(settings.models_dir).free < needed:
            raise _disk_full(file, settings.models_dir, needed)
        shutil.rmtree(unfinished_path(target), ignore_errors=True)  # of an import that was killed
        with whole_folder(target) as unfinished:
            taken = (part.component, *(name for name in part.with_others if name in CONVERTED))
            stems = {name: _stem(bases[0].spec, name) for name in taken}
            folders = [base.folder for base in bases]
            base = bases[convert(file, folders, stems, unfinished, on_bytes)]
            if other is not None:
                beside = {name: _stem(base.spec, name) for name in part.beside}
                convert(other, [base.folder], beside, unfinished, on_bytes)
            _lend(base, unfinished, (*stems, *part.beside))
            for problem in kind_of(unfinished, [place.folder for place in places_of(settings)]).problems:
                raise UserError(problem.id, **problem.params)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise _disk_full(file, settings.models_dir, making.size_bytes) from error
        raise UserError("models.not_writable", folder=str(target), reason=error.strerror or str(error)) from error
    return target, base


def _bases(part: SinglePart, settings: Settings, named: Path | None) -> Iterator[Base]:
    places = [place.folder for place in places_of(settings)]
    if named is not None:
        listed = [(named.name, named, spec_of(named))]
    else:
        entries = list_models(settings)
        listed = [(one.name, one.folder, SPECS[one.family]) for one in entries if one.folder is not None]
    for name, folder, spec in listed:
        if spec is None or folder.is_relative_to(ASSETS) or part.component not in spec.components:
            continue
        if part.component in NOISE.values() and has_experts(spec) != has_experts(part.spec):
            continue  # they would fit
        if part.gguf and part.component not in spec.gguf_components:
            continue
        if _lends(folder, part, places):
            inside = Path(os.path.realpath(folder))
            yield Base(name, folder, spec, any(inside.is_relative_to(os.path.realpath(one)) for one in places))


def _lends(folder: Path, part: SinglePart, places: Sequence[Path]) -> bool:
    """Whether a model has what the file lacks: it is whole, or lacks weights alone that the file has."""
    if not all((folder / name / "config.json").is_file() for name in (part.component, *part.beside)):
        return False
    kind = kind_of(folder, places)
    lacks_only = all(name.partition("/")[0] in part.held for name in kind.missing)
    return kind.family is not None and len(kind.missing) == len(kind.problems) and lacks_only


def _lend(base: Base, unfinished: Path, converted: Sequence[str]) -> None:
    """Put into a model that has its own weights all else that `base` has: as links, where they last. Raises OSError."""
    for name in INDEXES:
        if (base.folder / name).is_file():
            shutil.copyfile(base.folder / name, unfinished / name)
    for component in sorted({**base.spec.components, **base.spec.optional}):
        lent, place = base.folder / component, unfinished / component
        if component in converted:
            for config in lent.glob("*.json"):
                if ".index." not in config.name:
                    shutil.copyfile(config, place / config.name)
        elif lent.is_dir() and base.lasts:
            place.symlink_to(os.path.abspath(lent), target_is_directory=True)
        elif lent.is_dir():
            shutil.copytree(lent, place)


def _stem(spec: FamilySpec, component: str) -> str:
    """What the weights of a component are called, without their ending."""
    names = (name for name in spec.components[component] if name.endswith(SAFETENSORS))
    return next(names).removesuffix(SAFETENSORS)


def _refuse_quantised(file: Path) -> None:
    """Raise UserError where a weight is stored in a way that only the program knows that wrote it."""
    for name, tensor in raw_header(file).items():
        if len(tensor["shape"]) > 1 and tensor["dtype"] not in FLOATS:
            known = ", ".join(FLOATS)
            raise UserError("models.tensor_kind", file=str(file), tensor=name, kind=tensor["dtype"], known=known)


def _disk_full(file: Path, models_dir: Path, needed: int) -> UserError:
    free = round(shutil.disk_usage(models_dir).free / GIB, 1)
    return UserError(
        "models.disk_too_small",
        model=file.stem,
        folder=str(models_dir),
        needed_gib=round(needed / GIB, 1),
        free_gib=free,
    )
