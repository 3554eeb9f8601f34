"""Networks whose weights are a GGUF file, which diffusers reads and whose names it knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from diffusers import GGUFQuantizationConfig
from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES
from torch import Tensor, nn

from i2v.families.skeletons import on_host
from i2v.memory.gguf_layers import row_bytes, store_as
from i2v.messages import UserError
from i2v.models.gguf_files import PLAIN, GgufTensor, gguf_of, read_gguf_header


def read_gguf(cls: type, file: Path, precision: torch.dtype) -> nn.Module:
    """The network of this class in `file`, configured by the folder that it is in, computing in `precision`."""
    config = GGUFQuantizationConfig(compute_dtype=precision)
    network = cls.from_single_file(
        str(file), config=str(file.parent), quantization_config=config, dtype=precision, local_files_only=True
    )
    for layer in network.modules():
        if isinstance(layer, nn.Linear) and hasattr(layer.weight, "quant_type"):
            store_as(layer, layer.weight.as_tensor().contiguous(), layer.weight.quant_type)
        for name, one in layer._parameters.items():
            if one is not None and not isinstance(one, nn.Parameter):  # widened by diffusers, and put there as it is
                layer._parameters[name] = nn.Parameter(one, requires_grad=False)
    return network


def store_as_in(network: nn.Module, file: Path) -> None:
    """Change a network without contents, as its configuration makes it, to what `read_gguf` makes of `file`. Raises
    UserError where the file does not hold the network, or stores in blocks what is no linear layer's."""
    stored = tensors_of(network, file)
    for name, wanted in network.state_dict().items():
        found = stored.get(name)
        if found is None:
            shape = "x".join(map(str, wanted.shape))
            missing, count = sum(one not in stored for one in network.state_dict()), len(network.state_dict())
            raise UserError(
                "models.tensor_missing", file=str(file), tensor=name, shape=shape, missing=missing, count=count
            )
        layer = network.get_submodule(name.rpartition(".")[0])
        kept = set(name.split(".")) & set(network._keep_in_fp32_modules or ())
        linear = isinstance(layer, nn.Linear) and name.endswith(".weight")
        shape = tuple(wanted.shape)
        if found.is_quantised:
            if not linear and not kept:
                raise UserError("models.gguf_layer", file=str(file), tensor=name, kind=found.kind)
            shape = (*shape[:-1], row_bytes(shape[-1], found.number))
        if found.shape != shape:
            known = {"found": "x".join(map(str, found.shape)), "wanted": "x".join(map(str, shape))}
            raise UserError("models.tensor_shape", file=str(file), tensor=name, **known)
        if found.is_quantised and not kept:
            store_as(layer, torch.empty(shape, dtype=torch.uint8, device=wanted.device), found.number)


def store_as_in_folder(modules: Mapping[str, nn.Module], folder: Path, components: Sequence[str]) -> None:
    """`store_as_in` for each of `components` whose weights in the checkpoint `folder` are a GGUF file."""
    for name in components:
        if (file := gguf_of(folder / name)) is not None:
            store_as_in(modules[name], file)


def tensors_of(network: nn.Module, file: Path) -> Mapping[str, GgufTensor]:
    """The tensors of `file` by their names in `network`, which diffusers gives them."""
    header = read_gguf_header(file)
    if header.keys() == network.state_dict().keys():
        return header
    kinds = {0: PLAIN[0], **{one.number: one.kind for one in header.values()}}
    named = on_host(lambda: _renamed(network, header))
    return {
        name: GgufTensor(tuple(one.shape), kinds[number], number)
        for name, one in named.items()
        for number in (getattr(one, "quant_type", None) or _plain_number(header),)
    }


def _renamed(network: nn.Module, header: Mapping[str, GgufTensor]) -> dict[str, Tensor]:
    """By diffusers' own renaming, which also splits what it has apart, of tensors without contents."""
    from diffusers.quantizers.gguf.utils import GGUFParameter

    def tensor(one: GgufTensor) -> Tensor:
        if not one.is_quantised:
            return torch.empty(one.shape, device="meta")
        return GGUFParameter(torch.empty(one.shape, dtype=torch.uint8, device="meta"), quant_type=one.number)

    rename = SINGLE_FILE_LOADABLE_CLASSES[type(network).__name__]["checkpoint_mapping_fn"]
    return rename(checkpoint={name: tensor(one) for name, one in header.items()}, config=dict(network.config))


def _plain_number(header: Mapping[str, GgufTensor]) -> int:
    return next((one.number for one in header.values() if not one.is_quantised), 0)
