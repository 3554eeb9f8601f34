"""How a network is read from a checkpoint folder in diffusers layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import ModelMixin
from diffusers.utils import SAFETENSORS_WEIGHTS_NAME
from torch import nn
from transformers.utils import SAFE_WEIGHTS_NAME

from i2v.families.gguf_weights import read_gguf
from i2v.models.gguf_files import gguf_of
from i2v.models.verify import find_weights


def read(
    cls: type,
    folder: Path,
    precision: torch.dtype,
    cut: Callable[[nn.Module], object] | None = None,
    **more: Any,
) -> nn.Module:
    """The network of this class in `folder`, in `precision`, ready to run and not to be trained: of safetensors, or of
    a GGUF file. `cut` takes away what is not read of it; `more` goes to `from_pretrained`."""
    if (file := gguf_of(folder)) is not None:
        module = read_gguf(cls, file, precision)
    else:
        module = cls.from_pretrained(folder, dtype=precision, use_safetensors=True, local_files_only=True, **more)
    if cut is not None:
        cut(module)
    return module.eval().requires_grad_(False)


def read_half(cls: type, folder: Path, precision: torch.dtype) -> nn.Module:
    """As `read`, of a checkpoint that was published in halves too: the fp16 variant where the folder has it, unless
    float32 is asked for and the full weights are there as well."""
    name = SAFETENSORS_WEIGHTS_NAME if issubclass(cls, ModelMixin) else SAFE_WEIGHTS_NAME
    files = find_weights(folder, name, half=precision != torch.float32)
    return read(cls, folder, precision, variant="fp16" if any(".fp16" in one.name for one in files) else None)
