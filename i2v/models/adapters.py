"""LoRA files: which there are, and whether one is what it has to be, as far as its header tells. Nothing is loaded.

They lie in the folder `loras` of the models folder, or a folder of it, and are called by their name there without its
ending; or anywhere, and are called by their path.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from i2v.families import SPECS
from i2v.families.lora_names import LoraNames, lora_tensor
from i2v.families.spec import FamilySpec
from i2v.messages import Message, UserError, message
from i2v.models.parts_digest import parts_digest
from i2v.models.verify import FLOATS, PICKLES, SAFETENSORS, TensorPlace, read_header
from i2v.request import Adapter

FOLDER = "loras"
_PICKLED = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")  # torch's archive, and a bare pickle
_STATED = "modelspec.architecture"


@dataclass(frozen=True)
class AdapterFile:
    """A file in the folder of LoRAs. `families`: those that it may be for, as far as its header tells. `problem` says
    why it can be used with none."""

    name: str
    path: Path
    size_bytes: int
    families: tuple[str, ...]
    problem: Message | None


def list_adapters(models_dir: Path) -> list[AdapterFile]:
    """Every file in the folder of LoRAs that is one or is called like one, by name."""
    folder = models_dir / FOLDER
    files = (path for path in folder.rglob("*") if path.suffix in (SAFETENSORS, *PICKLES) and path.is_file())
    return sorted((_listed(folder, path) for path in files), key=lambda one: one.name)


def find_adapter(source: str, models_dir: Path, *, listed_only: bool = False) -> Path:
    """The file that is called `source`: by its name in the folder of LoRAs, or by its path, which is refused where only
    listed files may be named. Raises UserError where there is none."""
    found = is_adapter(source, models_dir, listed_only=listed_only)
    if found is None:
        names = ", ".join(one.name for one in list_adapters(models_dir) if one.problem is None)
        known = names or message("models.no_adapters").to_json()
        raise UserError("models.adapter_missing", name=source, folder=str(models_dir / FOLDER), known=known)
    return found


def is_adapter(source: str, models_dir: Path, *, listed_only: bool = False) -> Path | None:
    """As `find_adapter`; None where there is no such file."""
    folder = Path(os.path.abspath(models_dir / FOLDER))
    try:
        for name in (f"{source}{SAFETENSORS}", source):
            path = Path(os.path.abspath(folder / name))
            if path.is_relative_to(folder) and path.is_file():
                return path
        path = Path(source).expanduser().absolute()
        return path if not listed_only and path.is_file() else None
    except (OSError, ValueError, RuntimeError):  # no name that a file could have
        return None


def name_of(path: Path, models_dir: Path) -> str:
    """What the file at `path` is called in a request."""
    folder = Path(os.path.abspath(models_dir / FOLDER))
    return path.relative_to(folder).as_posix().removesuffix(SAFETENSORS) if path.is_relative_to(folder) else str(path)


def check_adapter(file: Path, spec: FamilySpec) -> None:
    """Raise UserError, naming file and tensor, where `file` is no LoRA, is damaged, or is for another model than those
    of `spec`'s family; as far as its header tells."""
    tensors, stated = _header_of(file)
    names = spec.lora_names
    if names is None:
        raise UserError("family.adapters_not_taken", model=spec.title)
    if not any(one is not None and one.part in ("A", "B") for one in map(lora_tensor, tensors)):
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


def content_of(file: Path) -> str:
    """The digest of the contents of `file`. Raises UserError where it cannot be read."""
    try:
        return parts_digest(file)
    except OSError as error:
        raise UserError("models.unreadable", file=str(file), reason=error.strerror or str(error)) from error


def checked_file(adapter: Adapter, models_dir: Path, spec: FamilySpec) -> tuple[Path, str]:
    """The file of `adapter`, and the digest of its contents. Raises UserError as `find_adapter` and `check_adapter` do,
    and where its contents are no longer those that the request was made with."""
    file = find_adapter(adapter.source, models_dir)
    check_adapter(file, spec)
    content = content_of(file)
    if adapter.digest and content != adapter.digest:
        raise UserError("models.adapter_changed", file=str(file))
    return file, content


def adapter_numbers(adapters: Sequence[Adapter], models_dir: Path, spec: FamilySpec) -> int:
    """How many numbers `adapters` put beside the weights of a network of `spec`'s family, or of that which gets most of
    them. Raises UserError where a file is no longer there or cannot be read."""
    names = spec.lora_names
    if names is None:
        return 0
    files = [find_adapter(one.source, models_dir) for one in adapters]
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


def _listed(folder: Path, path: Path) -> AdapterFile:
    problem, families = None, []
    for spec in SPECS.values():
        if spec.takes_adapters:
            try:
                check_adapter(path, spec)
                families.append(spec.name)
            except UserError as error:
                problem = problem or error.message
    name = path.relative_to(folder).as_posix().removesuffix(SAFETENSORS)
    return AdapterFile(name, path, path.stat().st_size, tuple(families), None if families else problem)


def _header_of(file: Path) -> tuple[Mapping[str, TensorPlace], str]:
    """The tensors of `file`, and the kind of model that it says it is for; "" where it does not. Raises UserError."""
    try:
        found = file.stat()
        return _read(file, found.st_size, found.st_mtime_ns)
    except OSError as error:
        raise UserError("models.unreadable", file=str(file), reason=error.strerror or str(error)) from error


@lru_cache(64)
def _read(file: Path, _size_bytes: int, _changed_ns: int) -> tuple[Mapping[str, TensorPlace], str]:
    """Read again when the file has changed, since a page asks at every change of its form."""
    with file.open("rb") as stream:
        start = stream.read(8)
        if file.suffix in PICKLES or start.startswith(_PICKLED):
            raise UserError("models.adapter_pickle", file=str(file))
        tensors = read_header(file)
        stream.seek(8)
        metadata = json.loads(stream.read(int.from_bytes(start, "little"))).get("__metadata__")
    stated = metadata.get(_STATED) if isinstance(metadata, dict) else None
    return tensors, str(stated or "").lower()
