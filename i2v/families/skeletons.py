"""What every family's skeleton needs: its modules built from configurations alone, in one precision.

A skeleton is a family's model without weights. Built inside fake tensors it costs no memory, and its phases are the
real ones, so a dry run follows them through the real code.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes

Configs = Mapping[str, Mapping[str, Any]]
"""The configuration of every component with weights, by its folder's name."""


class FixedLengthTokenizer:
    """Stands where the tokenizer does: every text is `model_max_length` tokens, as all are padded to that."""

    def __init__(self, model_max_length: int) -> None:
        self.model_max_length = model_max_length

    def __call__(self, text: str, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(input_ids=torch.zeros(1, self.model_max_length, dtype=torch.int64))


def read_configs(folder: Path, components: tuple[str, ...], optional: Iterable[str] = ()) -> Configs:
    """The configurations of a checkpoint folder, or of one of ours that holds nothing else; of `optional` components
    those that are there."""
    files = {name: folder / name / "config.json" for name in (*components, *optional)}
    wanted = {name: file for name, file in files.items() if name in components or file.is_file()}
    return {name: json.loads(file.read_text(encoding="utf-8")) for name, file in wanted.items()}


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """New parameters are of this type."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def on_host(make: Callable[[], Any]) -> Any:
    """What `make` makes, with contents whatever is faked around it, or on which device new tensors are: schedulers look
    at their own numbers."""
    with _disable_current_modes(), torch.device("cpu"):
        return make()


def build(make: Callable[[], nn.Module], dtype: torch.dtype) -> nn.Module:
    """A module as loading would give it: in `dtype`, and not to be trained."""
    with default_dtype(dtype):
        return make().eval().requires_grad_(False)
