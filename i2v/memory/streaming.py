"""Weights that come to the card block by block, while the block before is computed, and leave again.

A network's blocks are its layers in the order in which they run. Some stay on the card, as many as there is room for;
the others take turns in a ring of slots, each as large as the largest of them. All of this is made once, before the
first step, so that a step allocates nothing: a block's weights on the card are views into its buffer or slot, and only
what is looked up under their names changes. Copies run ahead, into the next pass too.

diffusers' group offloading does not serve: the host waits for each group, nothing may stay by a budget, every step
allocates, page-locked copies are rounded up to powers of two beside the weights themselves, and it can not run without
a card, so nothing of it can be tested here.

A text encoder's table of words does not come at all: a sentence needs a few hundred of its rows, which are looked up on
the host. UMT5's has 2 GiB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from i2v.memory.lanes import CopyQueue, Mark, Pairs
from i2v.memory.parts import Weight, around, parts_bytes, plain_parts, weights_of
from i2v.memory.step_cache import needs_no_weights
from i2v.planning.pipeline import ALIGN_BYTES, stays

if TYPE_CHECKING:
    from i2v.memory.card import Card


class WeightBlock:
    """Weights of one module as one piece of memory."""

    def __init__(self, module: nn.Module, weights: Sequence[Weight]) -> None:
        self.module = module
        self.weights = list(weights)
        self._parts = [plain_parts(weight.tensor) for weight in self.weights]
        self._offsets: list[int] = []
        self.size_bytes = 0
        for part in self._flat():
            self._offsets.append(self.size_bytes)
            self.size_bytes += -(-_span_bytes(part) // ALIGN_BYTES) * ALIGN_BYTES
        self._whole: Tensor | None = None

    def gather(self) -> Tensor:
        """Put all of it in one buffer on the host, which the module's own weights then are views of: RAM holds them
        once. The buffer is returned, to be page-locked."""
        if self._whole is None:
            whole = torch.empty(self.size_bytes, dtype=torch.uint8)
            for there, here in self._pairs(whole):
                there.copy_(here)
            self._put_host(self.over(whole))
            self._whole = whole
        return self._whole

    def pairs(self, buffer: Tensor) -> Pairs:
        """What is to be copied so that `buffer` holds this block: one piece where it was gathered, else each tensor
        from where it lies, in its file where it is mapped."""
        if self._whole is not None:
            return ((buffer[: self.size_bytes], self._whole),)
        return self._pairs(buffer)

    def over(self, buffer: Tensor) -> list[Tensor]:
        """The block's weights as views into `buffer`."""
        views = (view for view, _ in self._pairs(buffer))
        return [
            around(weight.tensor, [next(views) for _ in parts])
            for weight, parts in zip(self.weights, self._parts, strict=True)
        ]

    def put(self, tensors: Sequence[Tensor]) -> None:
        """Have the module find these as its weights."""
        for weight, tensor in zip(self.weights, tensors, strict=True):
            weight.put(tensor)

    def put_back(self) -> None:
        """Have the module find its own weights, those on the host."""
        self.put([weight.tensor for weight in self.weights])

    def _put_host(self, tensors: Sequence[Tensor]) -> None:
        """As `put`, and from now on these are the block's own."""
        self.put(tensors)
        self.weights = [Weight(old.places, new) for old, new in zip(self.weights, tensors, strict=True)]
        self._parts = [plain_parts(weight.tensor) for weight in self.weights]

    def _flat(self) -> list[Tensor]:
        return [part for parts in self._parts for part in parts]

    def _pairs(self, buffer: Tensor) -> list[tuple[Tensor, Tensor]]:
        return [(_view(buffer, offset, part), part) for offset, part in zip(self._offsets, self._flat(), strict=True)]


WORDS_BYTES = 64 * 2**20
"""From how many on a table of words stays on the host."""


@dataclass(frozen=True)
class Parted:
    """A network's weights: `blocks` in the order in which they run, and `outside`, what is in none of them. `words`:
    layers that only look up rows of a large table; they work on the host, and what they have is in neither."""

    blocks: tuple[WeightBlock, ...]
    outside: tuple[Weight, ...]
    words: tuple[nn.Embedding, ...] = ()

    @property
    def sizes_bytes(self) -> tuple[int, ...]:
        """Bytes of each block on a card."""
        return tuple(block.size_bytes for block in self.blocks)

    @property
    def outside_bytes(self) -> int:
        return sum(parts_bytes(self.outside))


def parted(network: nn.Module, modules: Sequence[nn.Module]) -> Parted:
    """`network` with a block for each of `modules`. A weight that is used in two of them, or also outside of them, is
    in none."""
    owner = {
        id(table): number
        for number, module in enumerate(modules)
        for layer in module.modules()
        for table in (layer._parameters, layer._buffers)
    }
    own: list[list[Weight]] = [[] for _ in modules]
    outside = []
    words = large_tables(network)
    on_host = {id(table) for layer in words for table in (layer._parameters, layer._buffers)}
    for weight in weights_of(network):
        if all(id(table) in on_host for table, _ in weight.places):
            continue
        numbers = {owner.get(id(table)) for table, _ in weight.places}
        number = numbers.pop() if len(numbers) == 1 else None
        (outside if number is None else own[number]).append(weight)
    return Parted(tuple(WeightBlock(*pair) for pair in zip(modules, own, strict=True)), tuple(outside), words)


def large_tables(network: nn.Module) -> tuple[nn.Embedding, ...]:
    """The layers of `network` that look up rows of a large table, which no other kind of layer uses."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Embedding)]
    tables = {id(layer._parameters) for layer in layers}
    large = {
        id(weight.tensor)
        for weight in weights_of(network)
        if weight.tensor.nbytes >= WORDS_BYTES and all(id(table) in tables for table, _ in weight.places)
    }
    return tuple(layer for layer in layers if id(layer.weight) in large)


class Streamer:
    """The blocks of one network on a card. Made, it has taken all the memory it will; `close` gives it back.

    A block comes when its module is called, by a hook; it may be called several times in a row, for as many chunks.
    Where another block is called than the one that is next, the ring begins anew from there: slower, and right."""

    def __init__(
        self, card: Card, blocks: Sequence[WeightBlock], lane: CopyQueue, *, kept_bytes: int, slots: int = 2
    ) -> None:
        self._blocks, self._lane = blocks, lane
        self._current: int | None = None
        self._hooks: list[Any] = []
        sizes = tuple(block.size_bytes for block in blocks)
        kept = stays(sizes, kept_bytes)
        self.streamed = [number for number in range(len(blocks)) if number not in kept]
        largest = max((sizes[number] for number in self.streamed), default=0)
        for number in self.streamed:
            card.will_copy(blocks[number])
        try:
            self._resident = {
                number: blocks[number].over(self._filled(card, blocks[number])) for number in sorted(kept)
            }
            count = min(slots, len(self.streamed))
            self._slots = [card.empty(largest) for _ in range(count)]
        except BaseException:
            self._resident, self._slots = {}, []
            raise
        self._views: dict[tuple[int, int], list[Tensor]] = {}
        self._free: list[Mark] = [lane.mark()] * count
        self._begun = self._used = 0  # copies begun, and blocks used, over all passes
        self._done: dict[int, Mark] = {}
        for number, block in enumerate(blocks):
            self._hooks.append(block.module.register_forward_pre_hook(partial(self._come, number)))
        self._run_ahead()

    def close(self) -> None:
        """Every block's own weights in their places again, and its memory on the card given back."""
        for hook in self._hooks:
            hook.remove()
        self._leave()
        self._lane.finish()
        for block in self._blocks:
            block.put_back()
        self._hooks, self._resident, self._slots, self._views, self._done = [], {}, [], {}, {}

    @staticmethod
    def _filled(card: Card, block: WeightBlock) -> Tensor:
        buffer = card.empty(block.size_bytes)
        for there, here in block.pairs(buffer):
            there.copy_(here)
        return buffer

    def _come(self, number: int, module: nn.Module, _inputs: Any) -> None:
        if number == self._current or needs_no_weights(module):
            return
        self._leave()
        if (resident := self._resident.get(number)) is not None:
            self._blocks[number].put(resident)
        else:
            self._run_ahead()
            if self.streamed[self._used % len(self.streamed)] != number:
                self._begin_at(number)
            slot = self._used % len(self._slots)
            self._lane.wait(self._done.pop(self._used))
            views = self._views.get((number, slot))
            if views is None:
                views = self._views[number, slot] = self._blocks[number].over(self._slots[slot])
            self._blocks[number].put(views)
        self._current = number

    def _leave(self) -> None:
        """The block that was computed last is needed no more; what comes next may take its slot."""
        if self._current is None:
            return
        number, self._current = self._current, None
        if number not in self._resident:
            self._free[self._used % len(self._slots)] = self._lane.mark()
            self._used += 1
        self._run_ahead()

    def _run_ahead(self) -> None:
        """Begin copies until every slot holds or awaits one of the blocks that come next."""
        while self.streamed and self._begun < self._used + len(self._slots):
            number, slot = self.streamed[self._begun % len(self.streamed)], self._begun % len(self._slots)
            pairs = self._blocks[number].pairs(self._slots[slot])
            self._done[self._begun] = self._lane.copy(pairs, self._free[slot])
            self._begun += 1

    def _begin_at(self, number: int) -> None:
        """What was copied ahead is not what comes: go on with `number`, in the same ring."""
        for done in self._done.values():
            self._lane.wait(done)
        self._done.clear()
        turns = len(self.streamed) * len(self._slots)
        self._used = self._begun = (self._begun // turns + 1) * turns + self.streamed.index(number)
        self._free = [self._lane.mark()] * len(self._slots)
        self._run_ahead()


def _span_bytes(part: Tensor) -> int:
    """Bytes from the first to the last element of `part` with its strides."""
    if part.numel() == 0:
        return 0
    return (1 + sum((n - 1) * s for n, s in zip(part.shape, part.stride(), strict=True))) * part.element_size()


def _view(buffer: Tensor, offset: int, like: Tensor) -> Tensor:
    """A tensor of the shape and strides of `like` in `buffer`, from the byte `offset` on."""
    return buffer[offset : offset + _span_bytes(like)].view(like.dtype).as_strided(like.shape, like.stride())
