"""Does a LoRA go on one model, and not only on its family? Models of one family come in several sizes, and the layers
of a larger one are wider: headers tell, so that nobody has to load a model to find out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from i2v.families import SPECS
from i2v.families.lora_names import lora_tensor
from i2v.families.spec import FamilySpec
from i2v.messages import Message, UserError, message
from i2v.models.adapters import AdapterFile, header_of, refusal_of
from i2v.models.entry import ModelEntry
from i2v.models.verify import SAFETENSORS, find_weights, read_header

_DENOISERS = ("transformer", "unet")  # what the names of their components begin with
_SIDES = {"A": 1, "B": 0}  # of a matrix of a LoRA and of the weight, which side they share

Weights = Sequence[tuple[Path, int, int]]
"""Files, each with its bytes and when it changed."""


def refusal_for(file: Path, spec: FamilySpec, entry: ModelEntry | None) -> Message | None:
    """Why the model `entry`, of the family `spec`, does not take the LoRA in `file`, as far as headers tell; None where
    it does. Of a model that is not here only the family is known."""
    return refusal_of(file, spec) or (misfit(file, spec, entry.folder) if entry and entry.present else None)


def fits(file: AdapterFile, entry: ModelEntry) -> bool:
    """Whether the model `entry` takes the LoRA, as far as headers tell."""
    return entry.family in file.families and refusal_for(file.path, SPECS[entry.family], entry) is None


def check_fit(file: Path, spec: FamilySpec, folder: Path) -> None:
    """Raise UserError as `misfit` says."""
    if (refusal := misfit(file, spec, folder)) is not None:
        raise UserError(refusal.id, **refusal.params)


def misfit(file: Path, spec: FamilySpec, folder: Path | None) -> Message | None:
    """The first matrix in `file` that is for another width than its layer has in the model in `folder`; None where all
    fit, or nobody can tell: no file is refused for that."""
    if folder is None or spec.lora_names is None:
        return None
    try:
        found = file.stat()
        weights = tuple(
            (one, size.st_size, size.st_mtime_ns)
            for component in _denoisers(spec, file)
            for one in _weights(folder, component, spec)
            if (size := one.stat())
        )
        wrong = _wrong(file, found.st_size, found.st_mtime_ns, weights, spec.name)
    except (OSError, UserError):  # told by whoever loads it
        return None
    return wrong and message("models.adapter_shape", file=str(file), **wrong)


def _denoisers(spec: FamilySpec, file: Path) -> Iterator[str]:
    """The components that the LoRA goes on."""
    for component in spec.every_component:
        if component.startswith(_DENOISERS) and spec.lora_goes_on(file.name, component):
            yield component


def _weights(folder: Path, component: str, spec: FamilySpec) -> Iterator[Path]:
    for name in spec.every_component[component]:
        if name.endswith(SAFETENSORS):
            yield from find_weights(folder / component, name)


@lru_cache(4096)
def _wrong(file: Path, _size: int, _changed: int, weights: Weights, family: str) -> dict[str, str] | None:
    """The tensor, its shape, and the one that the model takes. Read again when a file has changed."""
    names = SPECS[family].lora_names
    assert names is not None
    layers = _layers(weights)
    for name, place in header_of(file).items():
        tensor = lora_tensor(name)
        side = _SIDES.get(tensor.part) if tensor is not None else None
        layer = names.layer(tensor.layer) if tensor is not None else None
        if side is None or layer is None or len(place.shape) != 2:
            continue
        for weight in layers.get(names.diffusers_layer(layer), ()):
            if len(weight) == 2 and weight[side] != place.shape[side]:
                wanted = (place.shape[0], weight[1]) if side else (weight[0], place.shape[1])
                told = ("x".join(map(str, shape)) for shape in (place.shape, wanted))
                return {"tensor": name, **dict(zip(("found", "wanted"), told, strict=True))}
    return None


@lru_cache(16)
def _layers(weights: Weights) -> Mapping[str, Sequence[tuple[int, ...]]]:
    """The shapes of the weights of each layer, in every denoiser."""
    found: dict[str, list[tuple[int, ...]]] = {}
    for file, _, _ in weights:
        for name, place in read_header(file).items():
            layer, _, kind = name.rpartition(".")
            if kind == "weight":
                found.setdefault(layer, []).append(place.shape)
    return found
