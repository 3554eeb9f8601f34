"""Blocks in page-locked memory: locked where they lie, once, as far as RAM allows, and let go with their network."""

from __future__ import annotations

import gc
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from i2v.memory import card as cards
from i2v.memory.locked import LEFT_BYTES, LockedBlocks, may_lock
from i2v.memory.streaming import parted
from i2v.units import GIB

PLENTY = 64 * GIB, 48 * GIB  # of RAM in all, and available


class Runtime:
    """What torch offers of CUDA's runtime for this; `refuses` as a system does that allows no locking."""

    cudaError = SimpleNamespace(success=0)

    def __init__(self, refuses: bool = False) -> None:
        self.refuses = refuses
        self.locked: dict[int, int] = {}

    def cudaHostRegister(self, address: int, size_bytes: int, flags: int) -> int:
        if self.refuses:
            return 2
        assert address not in self.locked
        self.locked[address] = size_bytes
        return 0

    def cudaHostUnregister(self, address: int) -> int:
        del self.locked[address]
        return 0


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Runtime:
    made = Runtime()
    monkeypatch.setattr(torch.cuda, "cudart", lambda: made)
    return made


def network() -> nn.Sequential:
    return nn.Sequential(*(nn.Linear(10, 30 + number) for number in range(4)))


def test_blocks_are_locked_once_where_they_lie_and_let_go_with_their_network(runtime: Runtime):
    model, locked = network(), LockedBlocks()
    parts = parted(model, list(model))
    for block in (*parts.blocks, *parts.blocks):
        locked.lock(block, *PLENTY)
    assert sorted(runtime.locked.values()) == sorted(parts.sizes_bytes)
    assert locked.locked_bytes == sum(parts.sizes_bytes)
    own = {tensor.untyped_storage().data_ptr() for tensor in model.state_dict().values()}
    assert own == set(runtime.locked)  # the weights themselves, no copy beside them
    del block, parts, model
    gc.collect()
    assert runtime.locked == {}
    assert locked.locked_bytes == 0


def test_what_may_not_be_locked_stays_as_it_is(runtime: Runtime):
    model, locked = network(), LockedBlocks()
    before = [tensor.data_ptr() for tensor in model.state_dict().values()]
    for block in parted(model, list(model)).blocks:
        locked.lock(block, 64 * GIB, LEFT_BYTES)  # no RAM to take any from
    assert [tensor.data_ptr() for tensor in model.state_dict().values()] == before
    assert runtime.locked == {}


def test_where_the_system_refuses_its_error_is_taken_away(runtime: Runtime, monkeypatch: pytest.MonkeyPatch):
    """Else torch would raise it at the next kernel, whatever that computes."""
    runtime.refuses, launched = True, []

    def empty(*size: int, device: str) -> object:
        return SimpleNamespace(fill_=lambda value: launched.append(device))

    model, locked = network(), LockedBlocks()
    wanted = [tensor.clone() for tensor in model.state_dict().values()]
    block = parted(model, list(model)).blocks[0]
    whole = block.gather()
    monkeypatch.setattr(torch, "empty", empty)
    locked.lock(block, *PLENTY)
    assert launched == ["cuda"]
    assert locked.locked_bytes == 0
    del whole, block
    gc.collect()
    assert all(map(torch.equal, model.state_dict().values(), wanted))


@given(*[st.integers(0, 200 * GIB)] * 4)
def test_what_is_locked_leaves_the_computer_enough(size: int, locked: int, total: int, available: int):
    if may_lock(size, locked, total, available):
        assert available - size >= LEFT_BYTES
        assert locked + size <= total / 2


def test_a_card_of_ours_locks_what_will_stream(runtime: Runtime, monkeypatch: pytest.MonkeyPatch):
    """Those that stay are copied once."""
    monkeypatch.setattr(cards, "read_ram", lambda: PLENTY)
    model = network()
    parts = parted(model, list(model))
    card = cards.SimulatedCard(GIB)
    card.will_copy = cards.CudaCard.will_copy.__get__(card)
    with card.running():
        card.stream(model, parts, kept_bytes=parts.sizes_bytes[2], slots=2)
        (stream,) = card._streams.values()
        assert len(runtime.locked) == len(stream.streamed) == 3
        card.evict(model)
        card.stream(model, parts, kept_bytes=0, slots=2)
        assert len(runtime.locked) == 4
        card.evict(model)
