"""Is a model folder whole and safe to load? Looks at names, JSON and safetensors headers; loads no weight.

A safetensors file is eight bytes of header length (little endian), that many bytes of JSON naming each tensor's
place, and the tensors; so a cut-off file shows in its header and its size.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from i2v.families.spec import FamilySpec
from i2v.messages import UserError

INDEX = "model_index.json"
SAFETENSORS = ".safetensors"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_LONGEST_HEADER = 100_000_000  # bytes; the safetensors library refuses more as well
_LFS_POINTER = b"version https://git-lfs"


def verify_folder(folder: Path, spec: FamilySpec) -> None:
    """Check that `folder` holds a whole checkpoint of `spec`'s family in diffusers layout.

    Raises UserError naming the file and what to do: no folder, no or broken JSON, another class of model, a file
    that is missing, weights that exist as pickles only, a safetensors file that is cut off or none at all.
    """
    found = read_class_name(folder)
    if found != spec.class_name:
        raise UserError("models.wrong_class", folder=str(folder), found=found, wanted=spec.class_name, title=spec.title)
    for component, names in spec.components.items():
        for name in names:
            _verify_file(folder / component, name, component)


def read_class_name(folder: Path) -> str:
    """`_class_name` in the folder's model_index.json; UserError when there is none to read."""
    if not folder.is_dir():
        raise UserError("models.no_folder", folder=str(folder))
    index = folder / INDEX
    if not index.is_file():
        raise UserError("models.no_index", folder=str(folder), file=INDEX)
    return str(_read_json(index).get("_class_name"))


def find_weights(component: Path, name: str) -> tuple[Path, ...]:
    """The files that hold the weights `name` ("model.safetensors"), or () when there are none.

    Looks for the plain file, the plain shards, the fp16 file and the fp16 shards, in this order; shards are returned
    as their index lists them, whether they exist or not.
    """
    stem = name.removesuffix(SAFETENSORS)
    for file, index in (
        (name, f"{name}.index.json"),
        (f"{stem}.fp16{SAFETENSORS}", f"{name}.index.fp16.json"),
    ):
        if (component / file).is_file():
            return (component / file,)
        if (component / index).is_file():
            return _shards(component / index)
    return ()


def check_safetensors(file: Path) -> None:
    """Raise UserError when `file` is missing, cut off or not safetensors at all."""
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
        ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
        needed = 8 + length + max(ends, default=0)
    except OSError as error:
        raise UserError("models.missing_file", file=str(file)) from error
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        raise UserError("models.not_safetensors", file=str(file)) from error
    if size != needed:
        raise UserError("models.truncated", file=str(file), size=size, needed=needed)


def _verify_file(component: Path, name: str, title: str) -> None:
    if name.endswith(SAFETENSORS):
        weights = find_weights(component, name)
        if not weights:
            raise _no_weights(component, name, title)
        for file in weights:
            check_safetensors(file)
    elif (component / name).is_file():
        if name.endswith(".json"):
            _read_json(component / name)
    elif name not in ("vocab.json", "merges.txt") or not (component / "tokenizer.json").is_file():
        # Newer tokenizers are one tokenizer.json in place of vocab.json and merges.txt.
        raise UserError("models.missing_file", file=str(component / name))


def _no_weights(component: Path, name: str, title: str) -> UserError:
    try:
        pickles = sorted(file.name for file in component.iterdir() if file.suffix in _PICKLES)
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
    except (OSError, ValueError, RecursionError) as error:
        raise UserError("models.bad_json", file=str(file)) from error
    if not isinstance(values, dict):
        raise UserError("models.bad_json", file=str(file))
    return values
