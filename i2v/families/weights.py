"""How a network is read from a checkpoint folder in diffusers layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from i2v.families.gguf_weights import read_gguf
from i2v.models.gguf_files import gguf_of


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
