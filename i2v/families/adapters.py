"""LoRAs on a network that was read: put on beside its weights, which stay as they are, and taken off again.

diffusers converts the names and peft computes. Neither says what it leaves out, so that every tensor of a file is held
against the network before anything is changed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders import PeftAdapterMixin
from diffusers.loaders.lora_conversion_utils import (
    _convert_hunyuan_video_lora_to_diffusers,
    _convert_non_diffusers_minimax_h3_lora_to_diffusers,
)
from safetensors import safe_open
from torch import Tensor, nn

from i2v.families.differences import add_differences, check_differences, take_differences_back
from i2v.families.lora_names import HUNYUAN_VIDEO, MINIMAX_H3, LoraNames, lora_tensor
from i2v.memory.errors import is_out_of_memory, named_line
from i2v.messages import UserError

PREFIX = "transformer."  # diffusers' for what is not a text encoder's
_CONFIG = "lora_adapter_metadata"  # peft's configuration, as diffusers writes it into a file's header
_TAKEN = (("A", "weight"), ("B", "weight"), ("B", "bias"))

Convert = Callable[[dict[str, Tensor], Collection[str]], dict[str, Tensor]]
"""From the tensors of a file by their layers, and what the file calls them."""


@dataclass(frozen=True)
class ChosenAdapter:
    """A LoRA to be put on: its file, how many times what it was trained to, and the digest of the file's contents."""

    file: Path
    weight: float
    content: str = ""


@dataclass(frozen=True)
class LoraWeights:
    """What a file holds, under the names that diffusers gives the layers: "<layer>.lora_A.weight". `config`: what it
    says of itself for peft, by peft's names; None where the tensors say it all. `differences`: what is added to
    parameters of the network as it is, by their names there."""

    tensors: Mapping[str, Tensor]
    config: Mapping[str, Any] | None = None
    differences: Mapping[str, Tensor] = field(default_factory=dict)


def put_on(network: nn.Module, adapters: Sequence[ChosenAdapter], names: LoraNames, dtype: torch.dtype) -> None:
    """Put all of `adapters` on `network`, in `dtype`, in place of those that are on it. Raises UserError, naming file
    and tensor, where one does not fit; the network is then as it was read."""
    take_off(network)
    read = [read_lora(one.file, names) for one in adapters]
    for one, lora in zip(adapters, read, strict=True):
        check_fit(network, lora, one.file)
        check_differences(network, lora.differences, one.file)
        _check_values(lora, one.file, dtype)
    if not adapters:
        return
    make_adaptable(network)
    called: dict[str, float] = {}
    try:
        for one, lora in zip(adapters, read, strict=True):  # before layers are wrapped, and change their names
            add_differences(network, lora.differences, one.weight)
        for number, (one, lora) in enumerate(zip(adapters, read, strict=True)):
            if lora.tensors:
                called[f"file{number}"] = one.weight
                _load(network, lora, one.file, f"file{number}", dtype)
        if called:
            network.set_adapters(list(called), list(called.values()))
    except BaseException:
        take_off(network)
        raise
    network.eval().requires_grad_(False)


def make_adaptable(network: nn.Module) -> None:
    """Have diffusers' methods for LoRAs on `network`, which some of its classes lack; nothing else of it changes."""
    if not isinstance(network, PeftAdapterMixin):
        network.__class__ = _with_adapters(type(network))


@cache
def _with_adapters(cls: type[nn.Module]) -> type[nn.Module]:
    """`cls`, under its own name, with diffusers' methods for LoRAs."""
    return type(cls.__name__, (cls, PeftAdapterMixin), {"__module__": cls.__module__})


def take_off(network: nn.Module) -> None:
    """Leave of `network` what was read."""
    if getattr(network, "peft_config", None):
        network.unload_lora()
    take_differences_back(network)


def read_lora(file: Path, names: LoraNames) -> LoraWeights:
    """The LoRA in `file`, in whichever way it was written. Raises UserError for a tensor that no layer of `names`
    takes, or that is there twice, and where half of a layer's pair is missing."""
    read, metadata = _tensors_of(file)
    tensors: dict[str, Tensor] = {}
    alphas: dict[str, float] = {}
    layers: dict[str, str] = {}
    differences: dict[str, Tensor] = {}
    for name, tensor in read.items():
        found = lora_tensor(name)
        parameter = None if found is None else names.parameter(found)
        if parameter is not None and parameter not in differences:
            differences[parameter] = tensor
            continue
        layer = None if found is None else names.layer(found.layer)
        if found is None or layer is None:
            raise UserError("models.adapter_key", file=str(file), tensor=name)
        layers[name] = layer
        key = f"{layer}.lora_{found.part}.{found.kind}"
        if found.part == "alpha" and tensor.numel() == 1 and layer not in alphas:
            alphas[layer] = float(tensor)
        elif (found.part, found.kind) in _TAKEN and key not in tensors:
            tensors[key] = tensor
        else:
            raise UserError("models.adapter_key", file=str(file), tensor=name)
    for name, layer in layers.items():
        if not all(f"{layer}.lora_{part}.weight" in tensors for part in "AB"):
            raise UserError("models.adapter_half", file=str(file), tensor=name)
    if not alphas and names.alpha_key in metadata:
        with _told_of(file):
            alphas = dict.fromkeys(layers.values(), float(metadata[names.alpha_key]))
    for layer, alpha in alphas.items():
        _scale(tensors, layer, alpha)
    authors = {key: one for key, one in tensors.items() if names.is_authors(key.rpartition(".lora_")[0])}
    if not authors:
        return LoraWeights(tensors, _config_of(metadata, file), differences)
    with _told_of(file):
        converted = CONVERSIONS[names](authors, read) if names in CONVERSIONS else _renamed(authors, names)
    others = {key: one for key, one in tensors.items() if key not in authors}
    if twice := sorted(converted.keys() & others.keys()):
        raise UserError("models.adapter_key", file=str(file), tensor=twice[0])
    return LoraWeights({**converted, **others}, differences=differences)


def _tensors_of(file: Path) -> tuple[dict[str, Tensor], Mapping[str, str]]:
    """What stands in `file`, and what its header says beside. Raises UserError where it cannot be read."""
    with _told_of(file), safe_open(file, framework="pt") as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata() or {}  # noqa: SIM118


@contextmanager
def _told_of(file: Path) -> Iterator[None]:
    """What a library says of a file that it does not take, as a UserError that names it."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise UserError("models.adapter_cannot_load", file=str(file), error=named_line(error)) from error


def check_fit(network: nn.Module, lora: LoraWeights, file: Path) -> None:
    """Raise UserError for the first tensor of `lora` that `network` has no layer for, or one of another shape."""
    layers = dict(network.named_modules())
    for key, tensor in lora.tensors.items():
        layer, _, part = key.rpartition(".lora_")
        module = layers.get(layer)
        if not isinstance(module, nn.Linear | nn.Conv3d):
            raise UserError("models.adapter_layer", file=str(file), tensor=key, title=type(network).__name__)
        rank = next(iter(lora.tensors[f"{layer}.lora_A.weight"].shape), 0)
        wanted = _shape(module, part, rank)
        if tuple(tensor.shape) != wanted:
            found, needed = ("x".join(map(str, shape)) or "()" for shape in (tensor.shape, wanted))
            raise UserError("models.adapter_shape", file=str(file), tensor=key, found=found, wanted=needed)


def _shape(module: nn.Linear | nn.Conv3d, part: str, rank: int) -> tuple[int, ...]:
    """The shape of a part of a LoRA for `module`."""
    # What is stored in blocks has rows of bytes.
    linear = isinstance(module, nn.Linear)
    out, into, *window = (module.out_features, module.in_features) if linear else module.weight.shape
    match part:
        case "A.weight":
            return rank, into, *window
        case "B.weight":
            return out, rank, *(1 for _ in window)
        case "B.bias":
            return (out,)
    raise AssertionError(part)


def _check_values(lora: LoraWeights, file: Path, dtype: torch.dtype) -> None:
    """Raise UserError where a value is not a finite number, in the file or in `dtype`."""
    for key, tensor in (*lora.tensors.items(), *lora.differences.items()):
        if not torch.isfinite(tensor).all():
            raise UserError("models.tensor_not_finite", file=str(file), tensor=key)
        if not torch.isfinite(tensor.to(dtype)).all():
            raise UserError(
                "models.tensor_too_large", file=str(file), tensor=key, precision=str(dtype).removeprefix("torch.")
            )


def _load(network: nn.Module, lora: LoraWeights, file: Path, name: str, dtype: torch.dtype) -> None:
    """Put one LoRA on the network under `name`. Raises UserError with what the libraries say."""
    # Copies: the file may go while the network is in use, and no two layers share a tensor.
    tensors = {PREFIX + key: tensor.to(dtype, copy=True).contiguous() for key, tensor in lora.tensors.items()}
    config = None if lora.config is None else {PREFIX + key: value for key, value in lora.config.items()}
    with _told_of(file):
        network.load_lora_adapter(
            tensors, prefix=PREFIX.removesuffix("."), adapter_name=name, metadata=config, low_cpu_mem_usage=True
        )
        # peft gives them the type of the layer's own weights, which may be stored in eight bits.
        for key, tensor in tensors.items():
            layer, part, kind = key.removeprefix(PREFIX).rsplit(".", 2)
            matrix = getattr(network.get_submodule(layer), part)[name]
            setattr(matrix, kind, nn.Parameter(tensor, requires_grad=False))


def _scale(tensors: dict[str, Tensor], layer: str, alpha: float) -> None:
    """Take the scale of `layer`, alpha over rank, into what its second matrix makes."""
    rank = next(iter(tensors[f"{layer}.lora_A.weight"].shape), 0)
    for key in (f"{layer}.lora_B.weight", f"{layer}.lora_B.bias"):
        if rank and key in tensors:
            tensors[key] = tensors[key].float() * (alpha / rank)


def _config_of(metadata: Mapping[str, str], file: Path) -> Mapping[str, Any] | None:
    """What the header says of the transformer's LoRA, for peft; None where it says nothing."""
    if _CONFIG not in metadata:
        return None
    with _told_of(file):
        config = dict(json.loads(metadata[_CONFIG]))
    own = {key.removeprefix(PREFIX): value for key, value in config.items() if key.startswith(PREFIX)}
    return own or config or None


def _convert_hunyuan_video(tensors: dict[str, Tensor], _names: Collection[str]) -> dict[str, Tensor]:
    """As diffusers' own `HunyuanVideoLoraLoaderMixin.lora_state_dict` converts, which leaves files without double
    blocks as they are.

    Two layers are prepared for it: what goes into a token refiner's attention it would cut in three, and what goes into
    the last layer's modulation it would turn around in itself."""
    prepared = dict(tensors)
    for key, tensor in tensors.items():
        if key.endswith("self_attn_qkv.lora_A.weight"):
            prepared[key] = torch.cat([tensor] * 3)
        elif key.endswith("final_layer.adaLN_modulation.1.lora_A.weight"):
            prepared[key] = tensor.roll((len(tensor) + 1) // 2, 0)
    converted = _convert_hunyuan_video_lora_to_diffusers(prepared)
    return {key.removeprefix(PREFIX): tensor for key, tensor in converted.items()}


def _renamed(tensors: Mapping[str, Tensor], names: LoraNames) -> dict[str, Tensor]:
    """`tensors` with the layers' names that diffusers has."""
    renamed: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        layer, _, part = key.rpartition(".lora_")
        renamed[f"{names.diffusers_layer(layer)}.lora_{part}"] = tensor
    return renamed


def _convert_minimax_h3(tensors: dict[str, Tensor], names: Collection[str]) -> dict[str, Tensor]:
    """As diffusers' own `MiniMaxH3LoraLoaderMixin.lora_state_dict` converts. It tells by the word "default" in names
    that a trainer had the rows of queries, keys and values head by head."""
    if any(".default." in name for name in names):
        tensors = {re.sub(r"\.lora_([AB])\.", r".lora_\1.default.", key): one for key, one in tensors.items()}
    converted = _convert_non_diffusers_minimax_h3_lora_to_diffusers(tensors)
    return {key.removeprefix(PREFIX): tensor for key, tensor in converted.items()}


CONVERSIONS: dict[LoraNames, Convert] = {HUNYUAN_VIDEO: _convert_hunyuan_video, MINIMAX_H3: _convert_minimax_h3}
"""From the names that a network's authors gave its layers to diffusers'."""
