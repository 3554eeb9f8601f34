"""Reading weights from the disk before they are needed."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

PAGE_BYTES = 4096


def read_in(modules: Iterable[nn.Module]) -> None:
    """Have the system read what the weights of `modules` lie in. A file in the precision that is wanted is mapped, not
    read, when it is loaded, so that the disk's time would fall into the first step and be taken for the card's."""
    seen: set[int] = set()
    for module in modules:
        for tensor in (*module.parameters(), *module.buffers()):
            storage = tensor.data.untyped_storage()
            if storage.data_ptr() not in seen:
                seen.add(storage.data_ptr())
                torch.empty(0, dtype=torch.uint8).set_(storage)[::PAGE_BYTES].sum()
