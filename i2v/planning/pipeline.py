"""Weights that stream, in numbers: which blocks stay on the card, what that holds, how long a pass takes. No torch."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache, lru_cache

ALIGN_BYTES = 256
"""Every tensor of a block begins at a multiple of this, as torch's own allocations do."""
_GOLDEN = (5**0.5 - 1) / 2


@lru_cache(4096)
def stays(sizes: tuple[int, ...], budget_bytes: int) -> frozenset[int]:
    """Which blocks stay on the card within `budget_bytes`.

    They are taken at steps of the golden ratio, which spreads any number of them evenly: between two copies there then
    is as much to compute as there can be. More budget never means that less stays."""
    kept, left = [], budget_bytes
    for number in _spread(len(sizes)):
        if sizes[number] > left:
            break
        kept.append(number)
        left -= sizes[number]
    return frozenset(kept)


def held_bytes(sizes: tuple[int, ...], budget_bytes: int, slots: int) -> int:
    """What blocks of `sizes` hold on the card where those stay that `budget_bytes` has room for."""
    kept = stays(sizes, budget_bytes)
    streamed = [size for number, size in enumerate(sizes) if number not in kept]
    return sum(sizes[number] for number in kept) + min(slots, len(streamed)) * max(streamed, default=0)


def pass_seconds(
    compute_seconds: Sequence[float], copy_seconds: Sequence[float], kept: Collection[int], slots: int
) -> float:
    """Seconds of one pass over all blocks once the ring of `slots` turns."""
    ends = _pass_ends(compute_seconds, copy_seconds, kept, slots, 3)
    return ends[-1] - ends[-2]


def waiting_seconds(
    compute_seconds: Sequence[float], copy_seconds: Sequence[float], kept: Collection[int], slots: int
) -> float:
    """How much longer a pass takes than its computing alone, since it waits for blocks that come meanwhile."""
    return max(0.0, pass_seconds(compute_seconds, copy_seconds, kept, slots) - sum(compute_seconds))


def _pass_ends(
    compute_seconds: Sequence[float], copy_seconds: Sequence[float], kept: Collection[int], slots: int, passes: int
) -> list[float]:
    """When each pass ends: blocks are computed in order, copies come in order, a block waits for its copy, and a copy
    until its slot is free."""
    streamed = [number for number in range(len(compute_seconds)) if number not in kept]
    slots = min(slots, len(streamed))
    computed = copied = 0.0
    arrived: dict[int, float] = {}
    freed = [0.0] * slots
    begun = used = 0
    ends = []
    for _ in range(passes):
        for number, seconds in enumerate(compute_seconds):
            while streamed and begun < used + slots:
                copied = max(copied, freed[begun % slots]) + copy_seconds[streamed[begun % len(streamed)]]
                arrived[begun] = copied
                begun += 1
            if number in kept:
                computed += seconds
                continue
            computed = max(computed, arrived.pop(used)) + seconds
            freed[used % slots] = computed
            used += 1
        ends.append(computed)
    return ends


def read_share(blocks_bytes: int, ram_bytes: int, *, locks: bool = True) -> float:
    """How much of blocks that lie in mapped files is read from the disk again in every pass, with so much RAM for them.
    What is page-locked (`locks`) stays there, up to half of it (`memory.locked`); of the others the system keeps those
    that were used last, and they come round in order, so that none is there when its turn comes."""
    if blocks_bytes <= max(0, ram_bytes):
        return 0.0
    return 1 - max(0, ram_bytes) / 2 / blocks_bytes if locks else 1.0


@cache
def _spread(count: int) -> tuple[int, ...]:
    """All numbers below `count`, each as far from those before it as a walk in steps of the golden ratio has it."""
    order: list[int] = []
    free = list(range(count))
    at = 0.0
    while free:
        at = (at + _GOLDEN) % 1.0
        order.append(free.pop(int(at * len(free))))
    return tuple(order)
