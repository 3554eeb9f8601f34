"""LoRA files: which there are, and whether one is what it has to be, as far as its header tells. Nothing is loaded.

They lie in the folder `loras` of the models folder, or in one of another program, and are called by their name there
without its ending; or anywhere, and are called by their path.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from i2v.families import SPECS
from i2v.families.lora_names import LoraNames, lora_tensor
from i2v.families.spec import FamilySpec
from i2v.messages import Message, UserError, message
from i2v.models.lora_about import AboutLora, about_lora
from i2v.models.lora_places import FOLDER, files_in, is_adapter, lora_folders, name_of
from i2v.models.parts_digest import parts_digest
from i2v.models.verify import FLOATS, PICKLES, SAFETENSORS, TensorPlace, read_header
from i2v.request import Adapter

if TYPE_CHECKING:
    from i2v.settings.settings import Settings

_PICKLED = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")  # torch's archive, and a bare pickle
_STATED = "modelspec.architecture"


@dataclass(frozen=True)
class AdapterFile:
    """A file in the folder of LoRAs. `families`: those that it may be for, as far as its header tells. `problem` says
    why it can be used with none. `about`: what else the header says."""

    name: str
    path: Path
    size_bytes: int
    families: tuple[str, ...]
    problem: Message | None
    about: AboutLora = field(default_factory=AboutLora)


def list_adapters(models_dir: Path, elsewhere: Sequence[Path] = ()) -> list[AdapterFile]:
    """Every file in the folder of LoRAs that is one or is called like one, by name; what is hidden is not listed. Of
    those in the folders `elsewhere`, which hold LoRAs for all models of other programs, the ones for a family that is
    known here."""
    found = [one for path in files_in(models_dir / FOLDER) if (one := _listed(path, models_dir, ())) is not None]
    for folder in elsewhere:
        listed = (_listed(path, models_dir, elsewhere) for path in files_in(folder) if path.suffix == SAFETENSORS)
        found += [one for one in listed if one is not None and one.families]
    return sorted(found, key=lambda one: (Path(one.name).is_absolute(), one.name))


def adapters_for(settings: Settings) -> list[AdapterFile]:
    """As `list_adapters`, of every folder that the settings name."""
    return list_adapters(settings.models_dir, lora_folders(settings.model_folders))


def find_adapter(source: str, models_dir: Path, elsewhere: Sequence[Path] = (), *, listed_only: bool = False) -> Path:
    """As `is_adapter`. Raises UserError where there is no such file."""
    found = is_adapter(source, models_dir, elsewhere, listed_only=listed_only)
    if found is None:
        names = ", ".join(one.name for one in list_adapters(models_dir, elsewhere) if one.problem is None)
        known = names or message("models.no_adapters").to_json()
        raise UserError("models.adapter_missing", name=source, folder=str(models_dir / FOLDER), known=known)
    return found


def check_adapter(file: Path, spec: FamilySpec) -> None:
    """Raise UserError, naming file and tensor, where `file` is no LoRA, is damaged, or is for another model than those
    of `spec`'s family; as far as its header tells."""
    tensors, metadata = _header_of(file)
    names, stated = spec.lora_names, (metadata.get(_STATED) or "").lower()
    if names is None:
        raise UserError("family.adapters_not_taken", model=spec.title)
    if not is_lora(tensors):
        raise UserError("models.adapter_no_lora", file=str(file), tensors=len(tensors), tensor=next(iter(tensors), "-"))
    if stated and not re.search(names.stated, stated):
        raise UserError("models.adapter_stated", file=str(file), found=stated, title=spec.title)
    for tensor, place in tensors.items():
        found = lora_tensor(tensor)
        if found is None:
            raise UserError("models.adapter_key", file=str(file), tensor=tensor)
        if found.part == "difference" and not names.renamed:
            raise UserError("models.adapter_key", file=str(file), tensor=tensor)
        if names.parameter(found) is None and names.layer(found.layer) is None:
            raise UserError("models.adapter_layer", file=str(file), tensor=tensor, title=spec.title)
        if found.part != "alpha" and place.kind not in FLOATS:
            known = ", ".join(FLOATS)
            raise UserError("models.tensor_kind", file=str(file), tensor=tensor, kind=place.kind, known=known)


def is_lora(tensors: Iterable[str]) -> bool:
    """Whether any of these names is that of one half of a change to a layer."""
    return any(one is not None and one.part in ("A", "B") for one in map(lora_tensor, tensors))


def refusal_of(file: Path, spec: FamilySpec) -> Message | None:
    """Why `check_adapter` refuses `file`; None where it does not. Read again only when the file has changed: a page
    asks at every change of its form."""
    try:
        found = file.stat()
    except OSError as error:
        return message("models.unreadable", file=str(file), reason=error.strerror or str(error))
    return _refusal_since(file, found.st_size, found.st_mtime_ns, _Taker(spec))


def refusals_of(file: Path) -> dict[str, Message | None]:
    """Why each family that takes LoRAs refuses `file`, by its name; None for those that do not."""
    return {spec.name: refusal_of(file, spec) for spec in SPECS.values() if spec.takes_adapters}


def metadata_of(file: Path) -> Mapping[str, str]:
    """What the trainer wrote into the header of `file`. Raises UserError where it cannot be read."""
    return _header_of(file)[1]


def header_of(file: Path) -> Mapping[str, TensorPlace]:
    """The tensors of `file` by name, none of them read. Raises UserError where it cannot be read."""
    return _header_of(file)[0]


def content_of(file: Path) -> str:
    """The digest of the contents of `file`. Raises UserError where it cannot be read."""
    try:
        return parts_digest(file)
    except OSError as error:
        raise UserError("models.unreadable", file=str(file), reason=error.strerror or str(error)) from error


def checked_file(
    adapter: Adapter, models_dir: Path, spec: FamilySpec, elsewhere: Sequence[Path] = ()
) -> tuple[Path, str]:
    """The file of `adapter`, and the digest of its contents. Raises UserError as `find_adapter` and `check_adapter` do,
    and where its contents are no longer those that the request was made with."""
    file = find_adapter(adapter.source, models_dir, elsewhere)
    check_adapter(file, spec)
    content = content_of(file)
    if adapter.digest and content != adapter.digest:
        raise UserError("models.adapter_changed", file=str(file))
    return file, content


def adapter_numbers(
    adapters: Sequence[Adapter], models_dir: Path, spec: FamilySpec, elsewhere: Sequence[Path] = ()
) -> int:
    """How many numbers `adapters` put beside the weights of a network of `spec`'s family, or of that which gets most of
    them. Raises UserError where a file is no longer there or cannot be read."""
    names = spec.lora_names
    if names is None:
        return 0
    files = [find_adapter(one.source, models_dir, elsewhere) for one in adapters]
    on_each = ([file for file in files if spec.lora_goes_on(file.name, one)] for one in spec.lora_parts or ("",))
    return max(sum(numbers_in(file, names) for file in some) for some in on_each)


def numbers_in(file: Path, names: LoraNames) -> int:
    """How many numbers the LoRA in `file` puts beside the weights of a network of diffusers. Raises UserError where
    `file` cannot be read."""
    return sum(_numbers(name, place, names) for name, place in _header_of(file)[0].items())


def _numbers(name: str, place: TensorPlace, names: LoraNames) -> int:
    found = lora_tensor(name)
    if found is None or found.part not in ("A", "B"):
        return 0
    layer = names.layer(found.layer) or found.layer
    # What goes into a layer that is several of diffusers' goes into each of them.
    return math.prod(place.shape) * (names.parts(layer) if found.part == "A" else 1)


def _listed(path: Path, models_dir: Path, elsewhere: Sequence[Path]) -> AdapterFile | None:
    """None for a file that has gone meanwhile."""
    try:
        found = path.stat()
    except OSError:
        return None
    refusals = refusals_of(path)
    families = tuple(name for name, refusal in refusals.items() if refusal is None)
    problem = None if families else next(iter(refusals.values()), None)
    about = _about_since(path, found.st_size, found.st_mtime_ns)
    name = name_of(path, models_dir, elsewhere)
    return AdapterFile(name, path, found.st_size, families, problem, about)


class _Taker:
    """A family as far as it decides about a LoRA: two of the same names for layers and the same title are one."""

    def __init__(self, spec: FamilySpec) -> None:
        self.spec = spec
        self._same = (spec.title, spec.lora_names)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Taker) and self._same == other._same

    def __hash__(self) -> int:
        return hash(self._same)


@lru_cache(2**16)
def _refusal_since(file: Path, _size_bytes: int, _changed_ns: int, taker: _Taker) -> Message | None:
    try:
        check_adapter(file, taker.spec)
    except UserError as error:
        return error.message
    return None


@lru_cache(2**13)
def _about_since(file: Path, _size_bytes: int, _changed_ns: int) -> AboutLora:
    """What the header says; nothing where it cannot be read, which `_listed` tells."""
    try:
        return about_lora(*_header_of(file))
    except UserError:
        return AboutLora()


def _header_of(file: Path) -> tuple[Mapping[str, TensorPlace], Mapping[str, str]]:
    """The tensors of `file`, and its metadata. Raises UserError."""
    try:
        found = file.stat()
        return _read(file, found.st_size, found.st_mtime_ns)
    except OSError as error:
        raise UserError("models.unreadable", file=str(file), reason=error.strerror or str(error)) from error


@lru_cache(64)
def _read(file: Path, _size_bytes: int, _changed_ns: int) -> tuple[Mapping[str, TensorPlace], Mapping[str, str]]:
    """Read again when the file has changed, since a page asks at every change of its form."""
    with file.open("rb") as stream:
        start = stream.read(8)
        if file.suffix in PICKLES or start.startswith(_PICKLED):
            raise UserError("models.adapter_pickle", file=str(file))
        tensors = read_header(file)
        stream.seek(8)
        metadata = json.loads(stream.read(int.from_bytes(start, "little"))).get("__metadata__")
    texts = metadata.items() if isinstance(metadata, dict) else ()
    return tensors, {name: value for name, value in texts if isinstance(value, str)}
