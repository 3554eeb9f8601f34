"""The model of torch's allocator: cases worked by hand from its rules, and a plainer one with a limit beside it."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from i2v.dryrun.allocator import MIB, SEGMENTS_SLACK, Allocations, Allocator
from tests.planning.capped_allocator import CappedCard, OutOfMemory

KINDS = pytest.mark.parametrize("expandable", [True, False], ids=["expandable", "segments"])


def after(expandable: bool, *sizes: float) -> Allocator:
    """An allocator that holds so many MiB, in this order, named 0, 1, ...; a negative size frees the block of that
    name plus one."""
    allocator = Allocator(expandable=expandable)
    for name, size in enumerate(sizes):
        if size < 0:
            allocator.release(int(-size) - 1)
        else:
            allocator.allocate(name, int(size * MIB))
    return allocator


@KINDS
def test_small_blocks_share_two_mib(expandable):
    allocator = Allocator(expandable=expandable)
    for name in range(2 * MIB // 512):
        allocator.allocate(name, 1 + name % 512)
        assert allocator.reserved_bytes == 2 * MIB
    allocator.allocate(-1, 1)
    assert allocator.reserved_bytes == allocator.pinned_bytes == 4 * MIB


@KINDS
@pytest.mark.parametrize(
    ("sizes", "segments", "expandable_mib"),
    [
        ((1,), 2, 2),  # the largest small block
        ((1 + 1 / 2048,), 20, 20),  # the smallest large one, 512 bytes more
        ((6, 6, 6), 20, 20),
        ((6, 6, 6, 6), 40, 40),  # 2 MiB were left: in pages of 20 the fourth goes on from there
        ((12,), 12, 20),  # from 10 MiB on a segment has the block's size, in steps of 2 MiB
        ((12.5,), 14, 20),
        ((30, 12), 42, 60),  # 10 MiB were left
        ((30, 6, -1, 29.5, 0.9), 30 + 20 + 2, 40 + 2),
        ((30, -1, 31), 30 + 32, 40),  # what is free at the end is part of the next
        ((30, 6, -1, 12), 30 + 20, 40),  # the hole, not the smaller rest at the end, which counts as endless
        ((30, 6, -1, 12, 14), 30 + 20, 40),  # the rest of the hole, 18 MiB
        ((29, -1, 29.2, 1.1), 30 + 20, 40),  # a rest of no more than 1 MiB stays with its block, but in pages
    ],
)
def test_by_hand(expandable, sizes, segments, expandable_mib):
    """What is reserved in MiB, of segments and of pages."""
    assert after(expandable, *sizes).reserved_bytes == (expandable_mib if expandable else segments) * MIB


def test_a_card_needs_the_pages_in_which_something_is_held():
    """100 MiB and 6 beside them are six pages of 20; the six MiB lie in the last of them. Without expandable segments
    they have a segment of their own."""
    pages = after(True, 100, 6, -1)
    assert (pages.reserved_bytes, pages.pinned_bytes) == (120 * MIB, 20 * MIB)
    segments = after(False, 100, 6, -1)
    assert (segments.reserved_bytes, segments.pinned_bytes) == (120 * MIB, 20 * MIB)
    for allocator in (pages, segments):
        assert allocator.peak_needed_bytes == 120 * MIB
        allocator.reset_peak()
        assert allocator.peak_needed_bytes == 20 * MIB * (1 if allocator is pages else SEGMENTS_SLACK)
        allocator.empty_cache()
        assert allocator.reserved_bytes == 120 * MIB, "six MiB are held"
        allocator.release(1)
        allocator.empty_cache()
        assert allocator.reserved_bytes == allocator.pinned_bytes == 0


def events(seed: int, count: int = 400) -> Iterator[tuple[int, int]]:
    """A program's allocations and frees: a name and a size, 0 where it is freed. Sizes as a network has them: a few
    kinds many times over, and small ones between."""
    chance = random.Random(seed)
    kinds = [int(2 ** chance.uniform(8, 27)) for _ in range(6)]
    held: list[int] = []
    for name in range(count):
        if held and chance.random() < 0.45:
            yield held.pop(chance.choice((-1, chance.randrange(len(held))))), 0
        held.append(name)
        yield name, chance.choice(kinds) + chance.choice((0, 0, 700))
    for name in held:
        yield name, 0


@KINDS
@pytest.mark.parametrize("seed", range(12))
def test_it_reserves_what_the_plain_one_does_and_a_card_needs_no_more_than_it_says(expandable, seed):
    """Event by event without a limit; then with what it says is needed as the limit, where less is not enough."""
    allocator, endless = Allocator(expandable=expandable), CappedCard(2**50, expandable)
    for name, size in events(seed):
        for one in (allocator, endless):
            one.allocate(name, size) if size else one.release(name)
        assert allocator.reserved_bytes == endless.reserved_bytes
    assert allocator.pinned_bytes == 0
    assert passes(seed, allocator.peak_needed_bytes, expandable)
    if expandable:
        assert not passes(seed, allocator.peak_needed_bytes * 0.95, expandable)


def passes(seed: int, limit_bytes: float, expandable: bool) -> bool:
    card = CappedCard(int(limit_bytes), expandable)
    try:
        for name, size in events(seed):
            card.allocate(name, size) if size else card.release(name)
    except OutOfMemory:
        return False
    return True


def test_what_was_done_once_is_done_again():
    """A layer's allocations replayed: the same peaks as if it had run, and what it left is held under new numbers."""
    ran, replayed = Allocations(), Allocations()

    def layer(allocations: Allocations, given: int) -> tuple[int, int]:
        first = allocations.allocate(30 * MIB)
        allocations.release(given)  # an input that nobody else holds
        second = allocations.allocate(12 * MIB)
        allocations.release(first)
        return second, allocations.allocate(MIB)

    marks = []
    for allocations in (ran, replayed):
        given = allocations.allocate(5 * MIB)
        marks.append(allocations.mark())
        layer(allocations, given)
    given = ran.allocate(5 * MIB)
    left = layer(ran, given)
    done = replayed.since(marks[1])
    given = replayed.allocate(5 * MIB)
    now = replayed.replay(done)
    replayed.release(given)
    assert len(now) == len(left) == 2
    for kind in ("expandable", "segments"):
        one, other = getattr(ran, kind), getattr(replayed, kind)
        assert one.peak_needed_bytes == other.peak_needed_bytes
        assert one.pinned_bytes == other.pinned_bytes
    for number in now.values():
        replayed.release(number)
