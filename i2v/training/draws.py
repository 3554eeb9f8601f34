"""Everything random in training, from the seed and the number of the step alone: no state has to be kept, and a run
that goes on from any step draws what an unbroken one would have drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch

from i2v.families.trainable import Draw
from i2v.memory.card import Card


def order_of_epoch(buckets: Sequence[object], batch: int, seed: int, epoch: int) -> list[tuple[int, ...]]:
    """The numbers of the clips of each batch of one pass over all clips. Clips of one batch are in one bucket; the last
    of a bucket is filled up from its beginning, so that all batches have one size."""
    shuffled = torch.randperm(len(buckets), generator=generator(seed, "order", epoch)).tolist()
    batches = []
    for bucket in dict.fromkeys(buckets[number] for number in shuffled):
        inside = [number for number in shuffled if buckets[number] == bucket]
        filled = inside * -(-batch // len(inside)) if len(inside) < batch else inside
        filled = filled + filled[: -len(filled) % batch]
        batches += [tuple(filled[start : start + batch]) for start in range(0, len(filled), batch)]
    return [batches[number] for number in torch.randperm(len(batches), generator=generator(seed, "batches", epoch))]


class Order:
    """Which clips are in the batch of each step."""

    def __init__(self, buckets: Sequence[object], batch: int, seed: int) -> None:
        self._asked = tuple(buckets), batch, seed
        self._epoch, self._batches = 0, order_of_epoch(*self._asked, 0)

    def of_step(self, step: int) -> tuple[int, ...]:
        """The numbers of the clips of `step` (from 0)."""
        epoch, place = divmod(step, len(self._batches))  # every pass has as many batches
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, order_of_epoch(*self._asked, epoch)
        return self._batches[place]


def draw_of_step(shapes: Sequence[torch.Size], seed: int, step: int, dropout: float) -> Draw:
    """What is random in `step`, on the host, for latents of `shapes` (1, ...), all alike. The noise levels are spread
    evenly over the batch, so that a step says more of all of them."""
    count, drawn = len(shapes), generator(seed, "step", step)
    noise = torch.cat([torch.randn(shape, generator=drawn) for shape in shapes])
    levels = (torch.randperm(count, generator=drawn) + torch.rand(count, generator=drawn)) / count
    return Draw(noise, levels, (torch.rand(count, generator=drawn) < dropout).float())


def part_of(draw: Draw, begin: int, end: int) -> Draw:
    """What belongs to the examples from `begin` to `end`."""
    return Draw(draw.noise[begin:end], draw.levels[begin:end], draw.dropped[begin:end])


def generator(seed: int, *what: object) -> torch.Generator:
    """A stream of random numbers of its own for every `what`."""
    digest = hashlib.sha256(repr((seed, *what)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def on_card(draw: Draw, card: Card) -> Draw:
    """`draw` on the card."""
    return Draw(card.to_card(draw.noise), card.to_card(draw.levels), card.to_card(draw.dropped))
