"""The weights in a single file, as their authors or other programs keep them, in the layout of diffusers: by diffusers'
own renaming, and written again tensor by tensor, so that no more than a part of them is in RAM at once. A GGUF file is
read as it is, so it is only compared with the network, and copied."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from i2v.families.gguf_weights import store_as_in, tensors_of
from i2v.memory.errors import named_line
from i2v.messages import UserError
from i2v.models.gguf_files import GGUF
from i2v.units import GIB

_PART_BYTES = GIB // 2  # of tensors written at once; for a moment they are in RAM twice
_PIECE_BYTES = 2**24  # copied at once


def convert(
    file: Path,
    bases: Sequence[Path],
    stems: Mapping[str, str],
    out: Path,
    on_bytes: Callable[[int], None] = lambda _count: None,
) -> int:
    """Write what `file` holds of the components in `stems` (by what their weights are called, without the ending) into
    folders of these names in `out`, as the first of the models in `bases` has them with whose configurations it agrees;
    the number of that one. Raises UserError where it agrees with none, saying what differs from the first."""
    refused: UserError | None = None
    for number, base in enumerate(bases):
        try:
            if file.suffix == GGUF:
                for component in stems:
                    check_gguf(file, base / component)
                _copy(file, [out / component for component in stems], on_bytes)
                return number
            found = {component: renamed(file, base / component) for component in stems}
        except UserError as error:
            refused = refused or error
            continue
        for component, tensors in found.items():
            (out / component).mkdir(parents=True, exist_ok=True)
            _write(tensors, out / component, stems[component], on_bytes)
        return number
    raise refused or UserError("models.single_file", file=str(file))


def renamed(file: Path, component: Path) -> dict[str, Tensor]:
    """The tensors of `file` by the names of the network that the folder `component` configures: mapped, none is read.
    Raises UserError where the file does not hold exactly that network."""
    config = _read(component / "config.json")
    known = {"file": str(file), "base": str(component)}
    wanted = _shapes(config, component)
    with safe_open(file, framework="pt") as stored:
        tensors = {name: stored.get_tensor(name) for name in list(stored.keys())}
    if tensors.keys() != wanted.keys():
        rename = SINGLE_FILE_LOADABLE_CLASSES.get(str(config.get("_class_name")), {}).get("checkpoint_mapping_fn")
        if rename is None:
            raise UserError("models.single_class", found=str(config.get("_class_name")), **known)
        try:
            tensors = rename(checkpoint=tensors, config=config)
        except Exception as error:  # it looks for names that only its own networks have
            raise UserError("models.single_names", error=named_line(error), **known) from error
    for name in sorted({*wanted, *tensors}, key=lambda name: (name in tensors and name in wanted, name)):
        here, there = tensors.get(name), wanted.get(name)
        if here is None or there is None or tuple(here.shape) != there:
            shown = {"found": _shown(here if here is None else tuple(here.shape)), "wanted": _shown(there)}
            raise UserError("models.single_differs", tensor=name, **shown, **known)
    return tensors


def check_gguf(file: Path, component: Path) -> None:
    """Raise UserError where a GGUF file does not hold exactly the network that the folder `component` configures."""
    config = _read(component / "config.json")
    known = {"file": str(file), "base": str(component)}
    network = _network(config, component)
    try:
        more = sorted(tensors_of(network, file).keys() - network.state_dict().keys())
    except UserError:
        raise
    except Exception as error:  # diffusers' renaming looks for names that only its own networks have
        raise UserError("models.single_names", error=named_line(error), **known) from error
    if more:
        raise UserError("models.single_differs", tensor=more[0], found="+", wanted=_shown(None), **known)
    store_as_in(network, file)


def _copy(file: Path, folders: Sequence[Path], on_bytes: Callable[[int], None]) -> None:
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        with file.open("rb") as source, (folder / file.name).open("wb") as copy:
            while piece := source.read(_PIECE_BYTES):
                copy.write(piece)
                on_bytes(len(piece))


def _shapes(config: Mapping[str, Any], component: Path) -> dict[str, tuple[int, ...]]:
    """Of all tensors of the network that `config` describes."""
    return {name: tuple(tensor.shape) for name, tensor in _network(config, component).state_dict().items()}


def _network(config: Mapping[str, Any], component: Path) -> nn.Module:
    """The network that `config` describes, without contents."""
    name = str(config.get("_class_name"))
    try:
        with torch.device("meta"):
            return getattr(diffusers, name).from_config(dict(config))
    except Exception as error:  # whatever a stranger's configuration makes of it
        raise UserError("models.single_class", found=name, file=str(component), base=str(component)) from error


def _write(tensors: dict[str, Tensor], folder: Path, stem: str, on_bytes: Callable[[int], None]) -> None:
    """Write them as diffusers does: one file, or several and an index."""
    parts = list(_parts(tensors))
    names = [f"{stem}-{number:05}-of-{len(parts):05}.safetensors" for number in range(1, len(parts) + 1)]
    if len(parts) == 1:
        names = [f"{stem}.safetensors"]
    for name, part in zip(names, parts, strict=True):
        # Copies, since tensors of one file are of one storage.
        copied = {tensor: tensors[tensor].clone(memory_format=torch.contiguous_format) for tensor in part}
        save_file(copied, folder / name, metadata={"format": "pt"})
        on_bytes(sum(tensor.nbytes for tensor in copied.values()))
    if len(parts) > 1:
        where = {tensor: name for name, part in zip(names, parts, strict=True) for tensor in part}
        total = sum(tensor.nbytes for tensor in tensors.values())
        index = {"metadata": {"total_size": total}, "weight_map": where}
        (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")


def _parts(tensors: Mapping[str, Tensor]) -> Iterator[list[str]]:
    """Their names, in groups of no more bytes than a part may have, or of one that has more."""
    part: list[str] = []
    size = 0
    for name, tensor in tensors.items():
        if part and size + tensor.nbytes > _PART_BYTES:
            yield part
            part, size = [], 0
        part.append(name)
        size += tensor.nbytes
    yield part


def _read(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(values, dict):
            return values
    except OSError as error:
        raise UserError("models.missing_file", file=str(file)) from error
    except (ValueError, RecursionError):
        pass
    raise UserError("models.bad_json", file=str(file))


def _shown(shape: tuple[int, ...] | None) -> str:
    return "-" if shape is None else "x".join(map(str, shape)) or "()"
