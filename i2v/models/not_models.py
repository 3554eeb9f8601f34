"""What lies in the models folder and is no model: told for what it is, where somebody chooses it by name or path."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from i2v.messages import UserError
from i2v.models.single_files import part_in, told
from i2v.models.verify import INDEX, SAFETENSORS, index_of, read_header

_WEIGHTS = (SAFETENSORS, ".ckpt", ".pt", ".pth", ".bin", ".gguf")
_LORA_FILES = ("adapter_config.json", "adapter_model.safetensors", "pytorch_lora_weights.safetensors")
# Tensors of LoRA and its relatives, as PEFT, diffusers, kohya and LyCORIS name them.
_LORA_TENSOR = re.compile(r"(^|[._])lora_(A|B|up|down|mid|unet|te\d?|magnitude|E|embedding)|\.(hada|lokr)_|dora_scale")


def refusal(path: Path) -> UserError | None:
    """Why `path`, a file or a folder, cannot be chosen as a model: a LoRA, or a single file. None where it may be
    one."""
    if os.path.isfile(path):
        if (part := part_in(path)) is not None and not _is_lora(path):
            said = told(path, part)
            return UserError(said.id, **said.params)
        return UserError("models.lora" if _is_lora(path) else "models.single_file", file=str(path))
    if index_of(path) is None:
        lora = next((path / name for name in _LORA_FILES if os.path.isfile(path / name)), None)
        return None if lora is None else UserError("models.lora", file=str(lora))
    return None


def named(name: str, models_dir: Path) -> UserError | None:
    """Why what is called `name`, with or without its ending, in `models_dir` or a folder of it, is no model; None where
    nothing of that name is there."""
    if not name or Path(name).name != name:
        return None
    try:
        for path in _called(name, models_dir):
            if os.path.exists(path):
                return refusal(path) or UserError("models.no_index", folder=str(path), file=INDEX)
    except (OSError, ValueError):  # not to be read, or no file's name at all
        pass
    return None


def _called(name: str, models_dir: Path) -> Iterator[Path]:
    folders = [models_dir, *sorted(path for path in models_dir.iterdir() if os.path.isdir(path))]
    for ending in ("", *_WEIGHTS):
        for folder in folders:
            if folder == models_dir or ending or Path(name).suffix in _WEIGHTS:
                yield folder / f"{name}{ending}"


def _is_lora(file: Path) -> bool:
    if file.suffix != SAFETENSORS:
        return False
    try:
        return any(_LORA_TENSOR.search(name) for name in read_header(file))
    except UserError:  # damaged, or something else
        return False
