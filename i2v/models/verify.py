"""Is a model folder whole and safe to load? Looks at names, JSON and safetensors headers; loads no weight.

A safetensors file is eight bytes of header length (little endian), that many bytes of JSON naming each tensor's
place, and the tensors; so a cut-off file shows in its header and its size.
"""

from __future__ import annotations

import errno
import json
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from i2v.families.spec import FamilySpec, Mark
from i2v.messages import UserError
from i2v.models.config_values import bad_value
from i2v.models.gguf_files import gguf_of, read_gguf_header

INDEX = "model_index.json"
INDEXES = (INDEX, "modular_model_index.json")
"""What names the class of a checkpoint; the second where diffusers has the model as modular blocks alone."""
SAFETENSORS = ".safetensors"
FLOATS = ("F64", "F32", "F16", "BF16")
"""How weights may be stored, in safetensors' words: as they are. Smaller ones are scaled in ways that each program has
of its own."""
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_LONGEST_HEADER = 100_000_000  # bytes; the safetensors library refuses more as well
_LFS_POINTER = b"version https://git-lfs"
_SCHEDULER = Path("scheduler") / "scheduler_config.json"


@dataclass(frozen=True)
class TensorPlace:
    """Where a tensor lies and what its header says of it. `kind` is safetensors' word: F16, BF16, I8 ..."""

    file: Path
    name: str
    shape: tuple[int, ...]
    kind: str


def verify_folder(folder: Path, spec: FamilySpec) -> None:
    """Check that `folder` holds a whole checkpoint of `spec`'s family in diffusers layout.

    Raises UserError naming the file and what to do: no folder, no or broken JSON, another class of model, a file
    that is missing or may not be read, a number in a configuration that no model works with, weights that exist as
    pickles only, a safetensors file that is cut off or none at all, a scheduler that does not work here.
    """
    for problem in problems_of(folder, spec):
        raise problem


def problems_of(folder: Path, spec: FamilySpec) -> Iterator[UserError]:
    """All that `verify_folder` would complain about, one file after the other."""
    try:
        found = read_class_name(folder)
    except UserError as error:
        yield error
        return
    if not spec.is_of(found):
        yield UserError("models.wrong_class", folder=str(folder), found=found, wanted=spec.class_name, title=spec.title)
        return
    if not has_marks(folder, spec):
        yield UserError("models.other_kind", folder=str(folder), title=spec.title)
        return
    for component, names in components_in(folder, spec).items():
        for name in names:
            try:
                _verify_part(folder / component, name, component, spec)
            except UserError as error:
                yield error
    if "scheduler" in spec.components and os.path.isfile(folder / _SCHEDULER):
        try:
            _verify_scheduler(folder / _SCHEDULER, spec)
        except UserError as error:
            yield error


def _verify_part(component: Path, name: str, title: str, spec: FamilySpec) -> None:
    with _may_be_read(component):
        if name.endswith(SAFETENSORS) and title in spec.gguf_components and (file := gguf_of(component)) is not None:
            found = file.stat()
            _check_gguf(file, found.st_size, found.st_mtime_ns)
        else:
            _verify_file(component, name, title)


@lru_cache(64)
def _check_gguf(file: Path, _size: int, _changed_ns: int) -> None:
    """Raise UserError where `file` is no GGUF or cut off. Its package takes 50 ms for a large one: once for each."""
    read_gguf_header(file)


def components_in(folder: Path, spec: FamilySpec) -> Mapping[str, tuple[str, ...]]:
    """The files of each component that the checkpoint in `folder` has to have, and of those that it may have or not
    where it has them."""
    return {**spec.components, **{name: files for name, files in spec.optional.items() if (folder / name).is_dir()}}


def read_class_name(folder: Path) -> str:
    """`_class_name` in the folder's index; UserError when there is none to read."""
    with _may_be_read(folder):
        if not folder.is_dir():
            raise UserError("models.no_folder", folder=str(folder))
        index = next((file for name in INDEXES if (file := folder / name).is_file()), None)
        if index is None:
            raise UserError("models.no_index", folder=str(folder), file=INDEX)
    return str(_read_json(index).get("_class_name"))


def has_marks(folder: Path, spec: FamilySpec) -> bool:
    """Whether a checkpoint of the family's class is of the family: see `Mark`."""
    return all(_has_mark(folder, mark) for mark in spec.marks)


def _has_mark(folder: Path, mark: Mark) -> bool:
    if mark.is_on(_json_if_there(folder / mark.file)):
        return True
    return mark.or_else is not None and _has_mark(folder, mark.or_else)


def _json_if_there(file: Path) -> dict[str, Any]:
    try:
        return _read_json(file)
    except UserError:
        return {}


def index_of(folder: Path) -> Path | None:
    """The file that says what the folder is a checkpoint of; None where there is none, or it may not be looked at."""
    return next((folder / name for name in INDEXES if os.path.isfile(folder / name)), None)


def find_weights(component: Path, name: str, *, half: bool = False) -> tuple[Path, ...]:
    """The files that hold the weights `name` ("model.safetensors"), or () when there are none.

    Looks for the plain file, the plain shards, the fp16 file and the fp16 shards, in this order, with `half` for the
    fp16 ones first; shards are returned as their index lists them, whether they exist or not.
    """
    stem = name.removesuffix(SAFETENSORS)
    forms = [(name, f"{name}.index.json"), (f"{stem}.fp16{SAFETENSORS}", f"{name}.index.fp16.json")]
    for file, index in reversed(forms) if half else forms:
        if (component / file).is_file():
            return (component / file,)
        if (component / index).is_file():
            return _shards(component / index)
    return ()


def check_safetensors(file: Path) -> None:
    """Raise UserError when `file` is missing, may not be read, is cut off or not safetensors at all."""
    raw_header(file)


def read_header(file: Path) -> Mapping[str, TensorPlace]:
    """The tensors of `file` by name, none of them read. Raises UserError as `check_safetensors` says."""
    return {
        name: TensorPlace(file, name, tuple(tensor["shape"]), tensor["dtype"])
        for name, tensor in raw_header(file).items()
    }


def raw_header(file: Path) -> Mapping[str, Mapping[str, Any]]:
    """What the header of `file` says of each tensor: `shape`, `dtype` and `data_offsets`. Raises UserError as
    `check_safetensors` says."""
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            start = stream.read(8)
            if (start + stream.read(len(_LFS_POINTER))).startswith(_LFS_POINTER):
                raise UserError("models.lfs_pointer", file=str(file))
            if len(start) < 8:
                raise UserError("models.truncated", file=str(file), size=size, needed=8)
            (length,) = struct.unpack("<Q", start)
            if length > _LONGEST_HEADER:
                raise UserError("models.not_safetensors", file=str(file))
            if 8 + length > size:
                raise UserError("models.truncated", file=str(file), size=size, needed=8 + length)
            stream.seek(8)
            header = json.loads(stream.read(length))
        tensors = {name: tensor for name, tensor in header.items() if name != "__metadata__"}
        needed = 8 + length + max((tensor["data_offsets"][1] for tensor in tensors.values()), default=0)
        if not all(
            isinstance(one["dtype"], str) and all(type(side) is int for side in one["shape"])
            for one in tensors.values()
        ):
            raise TypeError("shapes are whole numbers, and kinds are words")
    except OSError as error:
        raise _unread(file, error) from error
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        raise UserError("models.not_safetensors", file=str(file)) from error
    if size != needed:
        raise UserError("models.truncated", file=str(file), size=size, needed=needed)
    return tensors


def _unread(file: Path, error: OSError) -> UserError:
    """Why `file` could not be read: it is not there, or the system does not give it."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
        return UserError("models.missing_file", file=str(file))
    return UserError("models.unreadable", file=str(error.filename or file), reason=error.strerror or str(error))


@contextmanager
def _may_be_read(folder: Path) -> Iterator[None]:
    """Turns what the system says where something in `folder` may not be looked at into a UserError."""
    try:
        yield
    except OSError as error:
        raise _unread(folder, error) from error


def _verify_scheduler(file: Path, spec: FamilySpec) -> None:
    """Raise UserError where the checkpoint asks for a scheduler that its family's steps do not work with."""
    config = _read_json(file)
    found, known = str(config.get("_class_name")), ", ".join(spec.schedulers)
    if found not in spec.schedulers:
        raise UserError("models.wrong_scheduler", file=str(file), found=found, title=spec.title, known=known)
    predicts = config.get("prediction_type", "epsilon")
    if predicts not in spec.predictions:
        known = ", ".join(spec.predictions)
        raise UserError("models.wrong_prediction", file=str(file), found=str(predicts), known=known)


def _verify_file(component: Path, name: str, title: str) -> None:
    if name.endswith(SAFETENSORS):
        # Which of two forms is loaded depends on the precision, so both have to be whole.
        weights = {*find_weights(component, name), *find_weights(component, name, half=True)}
        if not weights:
            raise _no_weights(component, name, title)
        for file in sorted(weights):
            check_safetensors(file)
    elif (component / name).is_file():
        if name.endswith(".json"):
            _verify_values(component / name, title)
    elif name not in ("vocab.json", "merges.txt") or not (component / "tokenizer.json").is_file():
        # Newer tokenizers are one tokenizer.json in place of vocab.json and merges.txt.
        raise UserError("models.missing_file", file=str(component / name))


def _verify_values(file: Path, component: str) -> None:
    bad = bad_value(component, _read_json(file))
    if bad is not None:
        raise UserError(f"models.config_{bad.needed}", file=str(file), key=bad.key, found=bad.found)


def _no_weights(component: Path, name: str, title: str) -> UserError:
    try:
        pickles = sorted(file.name for file in component.iterdir() if file.suffix in PICKLES)
    except OSError:
        pickles = []
    if pickles:
        return UserError("models.pickle_only", component=title, file=pickles[0], wanted=name, folder=str(component))
    return UserError("models.missing_file", file=str(component / name))


def _shards(index: Path) -> tuple[Path, ...]:
    try:
        names = sorted({str(name) for name in _read_json(index)["weight_map"].values()})
    except (KeyError, AttributeError) as error:
        raise UserError("models.bad_json", file=str(index)) from error
    if not names or any(Path(name).name != name for name in names):  # an index may not reach outside its folder
        raise UserError("models.bad_json", file=str(index))
    return tuple(index.parent / name for name in names)


def _read_json(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise _unread(file, error) from error
    except (ValueError, RecursionError) as error:
        raise UserError("models.bad_json", file=str(file)) from error
    if not isinstance(values, dict):
        raise UserError("models.bad_json", file=str(file))
    return values
