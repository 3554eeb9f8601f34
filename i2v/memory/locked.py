"""Host memory that a card reads without the host's help: page-locked, so that copies run beside the computing.

torch's own page-locked memory is rounded up to a power of two, 648 MiB to 1 GiB, so ours is locked where it lies.
Locked memory is never moved to the disk, so it must leave the rest of the computer enough.
"""

from __future__ import annotations

import weakref
from contextlib import suppress

import torch
from torch import Tensor

from i2v.memory.streaming import WeightBlock
from i2v.units import GIB

LEFT_BYTES = 2 * GIB  # of RAM for all else
MOST_SHARE = 0.5  # of all RAM; Windows allows no more to a program


def may_lock(size_bytes: int, locked_bytes: int, total_bytes: int, available_bytes: int) -> bool:
    """Whether `size_bytes` more of RAM may be taken and locked, beside what is `locked_bytes` already."""
    within_share = locked_bytes + size_bytes <= MOST_SHARE * total_bytes
    return within_share and available_bytes - size_bytes >= LEFT_BYTES


class LockedBlocks:
    """The blocks of networks that stream, gathered in page-locked memory as far as RAM allows. Those that do not come
    to be locked are copied from where they lie, in their file where it is mapped: slower, and the same bytes."""

    def __init__(self) -> None:
        self._locked: weakref.WeakKeyDictionary[WeightBlock, int] = weakref.WeakKeyDictionary()

    @property
    def locked_bytes(self) -> int:
        """What is locked now."""
        return sum(self._locked.values())

    def lock(self, block: WeightBlock, total_bytes: int, available_bytes: int) -> None:
        """Gather and lock `block` where there is room for it. `total_bytes`, `available_bytes`: of RAM."""
        if block in self._locked or not may_lock(block.size_bytes, self.locked_bytes, total_bytes, available_bytes):
            return
        buffer = block.gather()
        if page_lock(buffer):
            self._locked[block] = block.size_bytes
            # As long as it waits for its turn, what is called at the end keeps the buffer.
            weakref.finalize(block, _unlock, buffer)


def page_lock(buffer: Tensor) -> bool:
    """Lock `buffer` where it lies; whether the system allowed that."""
    runtime = torch.cuda.cudart()
    if runtime.cudaHostRegister(buffer.data_ptr(), buffer.nbytes, 0) == runtime.cudaError.success:
        return True
    # The runtime keeps the error of a call that failed, and torch would raise it at the next kernel that is launched.
    with suppress(RuntimeError):
        torch.empty(1, device="cuda").fill_(0)
    return False


def _unlock(buffer: Tensor) -> None:
    torch.cuda.cudart().cudaHostUnregister(buffer.data_ptr())
