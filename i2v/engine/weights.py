"""Do a checkpoint's files hold the tensors that its configurations ask for, and numbers in them?

The libraries fill a tensor that is missing with whatever lay in memory, and go on. So the names and shapes in the
files' headers are compared with the model built from its configurations, which costs no memory on torch's meta device.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightRenaming, rename_source_key

from i2v.families.gguf_weights import store_as_in
from i2v.families.skeletons import read_configs
from i2v.families.spec import FamilySpec
from i2v.hardware.host import read_ram
from i2v.memory.errors import named_line
from i2v.messages import UserError
from i2v.models.fetch.record import read_record
from i2v.models.gguf_files import gguf_of
from i2v.models.mapped import KINDS
from i2v.models.verify import FLOATS, SAFETENSORS, TensorPlace, components_in, find_weights, read_header
from i2v.models.weight_files import as_published

Places = Mapping[tuple[str, str], TensorPlace]
"""Where each tensor of the model lies: by component, and its name there."""


def find_tensors(folder: Path, spec: FamilySpec, precision: str) -> Places:
    """Where every tensor of the model in `folder` lies. Reads headers only. Raises UserError naming file and tensor
    where one is missing, has another shape, or is stored in a way that cannot be read, and where a configuration
    makes no model."""
    places: dict[tuple[str, str], TensorPlace] = {}
    components = components_in(folder, spec)
    for component, module in _skeleton(folder, spec, precision).items():
        if component in spec.gguf_components and (file := gguf_of(folder / component)) is not None:
            store_as_in(module, file)
            continue
        files = [name for name in components.get(component, ()) if name.endswith(SAFETENSORS)]
        for name in files:
            found = find_weights(folder / component, name, half=precision != "float32")
            headers: dict[str, TensorPlace] = {}
            for file in found:
                headers |= read_header(file)
            where = found[0] if len(found) == 1 else folder / component
            for tensor, place in match(module, headers, where).items():
                places[component, tensor] = place
    return places


def match(module: nn.Module, headers: Mapping[str, TensorPlace], file: Path) -> dict[str, TensorPlace]:
    """The place of each of the module's tensors among those of `headers`. Raises UserError as `find_tensors` says,
    with `file` for a tensor that is in none."""
    wanted = module.state_dict()
    found = _as_loaded(module, headers)
    missing = [name for name in wanted if name not in found]
    if missing:
        first = missing[0]
        prefixes = (name.removesuffix(first) for name in headers if name.endswith(f".{first}"))
        prefix = next((prefix for prefix in prefixes if all(prefix + name in headers for name in missing)), "")
        known = {"file": str(file), "tensor": first, "shape": _shown(wanted[first].shape)}
        if prefix:
            raise UserError("models.tensor_prefix", prefix=prefix, **known)
        raise UserError("models.tensor_missing", missing=len(missing), count=len(wanted), **known)
    for name, tensor in wanted.items():
        place = found[name]
        known = {"file": str(place.file), "tensor": place.name}
        if place.kind not in FLOATS:
            raise UserError("models.tensor_kind", kind=place.kind, known=", ".join(FLOATS), **known)
        if place.shape != tuple(tensor.shape):
            raise UserError("models.tensor_shape", found=_shown(place.shape), wanted=_shown(tensor.shape), **known)
    return {name: found[name] for name in wanted}


def check_values(
    component: str, module: nn.Module, places: Places, precision: str, known: Collection[Path] = ()
) -> None:
    """Raise UserError where a loaded weight is not a number or infinite: of the file, where it is so there, else
    because it is too large for `precision`. What stands as it does in one of the `known` files is not looked at."""
    for name, tensor in module.state_dict().items():
        place = places.get((component, name))
        if place is not None and place.file in known and KINDS.get(_precision(tensor)) == place.kind:
            continue
        if _finite(tensor):
            continue
        known = {"file": str(place.file) if place else component, "tensor": place.name if place else name}
        if place is not None and _finite(_read(place)):
            raise UserError("models.tensor_too_large", precision=precision, **known)
        raise UserError("models.tensor_not_finite", **known)


def _skeleton(folder: Path, spec: FamilySpec, precision: str) -> Mapping[str, nn.Module]:
    """The modules of the model, without weights."""
    family = importlib.import_module(f"i2v.families.{spec.name}.skeleton")
    try:
        with torch.device("meta"):
            configs = read_configs(folder, family.CONFIGURED, spec.optional)
            return family.skeleton(configs, getattr(torch, precision), spec.max_prompt_tokens).modules
    except Exception as error:  # whatever a stranger's configuration makes of it
        raise UserError("models.bad_config", folder=str(folder), title=spec.title, error=named_line(error)) from error


def _as_loaded(module: nn.Module, headers: Mapping[str, TensorPlace]) -> dict[str, TensorPlace]:
    """The tensors under the names that the module's library gives them when it loads: older checkpoints have others."""
    found = dict(headers)
    if isinstance(module, PreTrainedModel):
        renamings = [one for one in get_model_conversion_mapping(module) if isinstance(one, WeightRenaming)]
        known, prefix = module.state_dict(), module.base_model_prefix
        named = {rename_source_key(name, renamings, [], prefix, known)[0]: place for name, place in found.items()}
        # A tensor with two names is stored under one of them.
        for pair in (module.all_tied_weights_keys or {}).items():
            for name, other in (pair, pair[::-1]):
                if name not in named and other in named:
                    named[name] = named[other]
        return named
    if hasattr(module, "_fix_state_dict_keys_on_load"):
        module._fix_state_dict_keys_on_load(found)
    return found


def known_files(folder: Path, component: str, module: nn.Module, places: Places) -> frozenset[Path]:
    """The files of a component that is larger than the RAM that is free, as far as they are what was published. Looking
    through them would read them from the disk, and none of it would be in RAM when it is computed with."""
    if sum(tensor.nbytes for tensor in module.state_dict().values()) <= read_ram()[1]:
        return frozenset()
    record = read_record(folder)
    files = {place.file for (name, _), place in places.items() if name == component}
    return frozenset(file for file in files if as_published(file, folder, record))


def _precision(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _finite(tensor: Tensor) -> bool:
    """Whether every value is a finite number. Smallest and largest tell it, in a fiftieth of `isfinite`'s time."""
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return True
    low, high = torch.aminmax(tensor)
    return bool(torch.isfinite(low)) and bool(torch.isfinite(high))


def _read(place: TensorPlace) -> Tensor:
    with safe_open(place.file, framework="pt") as file:
        return file.get_tensor(place.name)


def _shown(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "()"
