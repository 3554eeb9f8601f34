"""A model of torch's caching allocator: how much of a card tensors of these sizes need, in this order.

What a program holds is not what its card gives away: the allocator asks the driver for segments, cuts blocks from them
and keeps what is freed. The rules are those of `c10/cuda/CUDACachingAllocator.cpp` of torch 2.13 with its default
settings, for one stream:

- a size is rounded up to 512 bytes; up to 1 MiB it comes from the pool of small blocks, else from that of large ones
- the smallest free block that is large enough is taken; what is left of it becomes a free block, if it is more than
  1 MiB or the pool is that of small blocks
- if there is none, a new segment is reserved: 2 MiB for a small block, 20 MiB for one below 10 MiB, else the size
  rounded up to 2 MiB
- with expandable segments each pool has one segment that grows by pages of 2 or 20 MiB at its end, the rest of a block
  is always kept free, and the block at the end is taken only if no other will do
- a freed block joins its free neighbours
- where the card has nothing left, what is reserved for nothing goes back to it before an error is raised

With expandable segments that goes by pages, so a card needs what is pinned at worst: the pages that something held lies
in. Without, it goes by whole segments, and what is pinned is not enough: a new block may find no hole that is large
enough. Full-size runs of I2VGen-XL, followed through an allocator with a limit (`tests/planning/capped_allocator.py`),
pass with what is pinned in the one case, and with a fifth more in the other. Workspaces of kernels are no tensors and
are not in it. No torch is needed.
"""

from __future__ import annotations

import bisect
from array import array
from collections.abc import Sequence

MIB = 2**20
GRAIN = 512
SMALL_BLOCK = MIB
SMALL_SEGMENT, LARGE_SEGMENT = 2 * MIB, 20 * MIB
OWN_SEGMENT = 10 * MIB  # from this size on a block has a segment of its own size
SEGMENT_GRAIN = 2 * MIB
SEGMENTS_SLACK = 1.2  # what a card needs without expandable segments, by what is pinned


class _Block:
    """A piece of a segment, between its neighbours there."""

    __slots__ = ("address", "after", "before", "free", "pool", "segment", "size")

    def __init__(
        self, address: int, size: int, pool: _Pool, segment: _Segment, before: _Block | None, after: _Block | None
    ) -> None:
        self.address, self.size, self.pool, self.segment = address, size, pool, segment
        self.before, self.after = before, after
        self.free = True
        if before is not None:
            before.after = self
        if after is not None:
            after.before = self


class _Segment:
    """Memory from the driver, which goes back to it by pages of `page_bytes`, and how many held blocks lie in each."""

    def __init__(self, page_bytes: int) -> None:
        self.page_bytes = page_bytes
        self._held: dict[int, int] = {}

    def pin(self, block: _Block, times: int) -> int:
        """Count a block as held, or with -1 as held no more. Bytes that are pinned more, or less, than before."""
        size, held, changed = self.page_bytes, self._held, 0
        page, last = block.address // size, (block.address + block.size - 1) // size
        while page <= last:
            before = held.get(page, 0)
            held[page] = now = before + times
            if not before or not now:
                changed += times
            page += 1
        return changed * size


class _Pool:
    """The free blocks of one kind of size, the smallest and then the lowest first; and where segments are expandable
    its one segment with the last block of it."""

    def __init__(self, segment_bytes: int) -> None:
        self.segment_bytes = segment_bytes
        self.free: list[tuple[int, int, _Block]] = []
        self.growing = _Segment(segment_bytes)
        self.last: _Block | None = None

    def put(self, block: _Block) -> None:
        bisect.insort(self.free, (block.size, block.address, block))

    def take(self, block: _Block) -> None:
        del self.free[bisect.bisect_left(self.free, (block.size, block.address))]

    def join(self, first: _Block, second: _Block) -> None:
        """Have `first` reach to the end of `second`, which is no more."""
        first.size += second.size
        first.after = after = second.after
        if after is not None:
            after.before = first
        if self.last is second:
            self.last = first


class Allocator:
    """One card's memory as torch keeps it. Blocks are named by the caller's own numbers."""

    def __init__(self, *, expandable: bool) -> None:
        self._expandable = expandable
        self._begin()
        self.reset_peak()

    def _begin(self) -> None:
        self.reserved_bytes = self.pinned_bytes = 0
        self._small, self._large = _Pool(SMALL_SEGMENT), _Pool(LARGE_SEGMENT)
        self._held: dict[int, _Block] = {}
        self._segments_end = 0

    @property
    def peak_needed_bytes(self) -> int:
        """What a card needs for all since the last `reset_peak`: never more than was reserved."""
        slack = 1.0 if self._expandable else SEGMENTS_SLACK
        return min(self._peak_reserved_bytes, int(self._peak_pinned_bytes * slack))

    def reset_peak(self) -> None:
        """Start a new peak from what is held now."""
        self._peak_reserved_bytes, self._peak_pinned_bytes = self.reserved_bytes, self.pinned_bytes

    def allocate(self, name: int, size: int) -> None:
        """Hold `size` bytes, at least one, as `name`."""
        size = -(-size // GRAIN) * GRAIN
        pool = self._small if size <= SMALL_BLOCK else self._large
        block = self._found(pool, size) or (self._grown if self._expandable else self._reserved)(pool, size)
        rest = block.size - size
        if rest >= GRAIN and (self._expandable or pool is self._small or rest > SMALL_BLOCK):
            block.size = size
            pool.put(self._block(block.address + size, rest, pool, block.segment, block, block.after))
        block.free = False
        self._held[name] = block
        self.pinned_bytes = pinned = self.pinned_bytes + block.segment.pin(block, 1)
        if pinned > self._peak_pinned_bytes:
            self._peak_pinned_bytes = pinned
        if self.reserved_bytes > self._peak_reserved_bytes:
            self._peak_reserved_bytes = self.reserved_bytes

    def release(self, name: int) -> None:
        """Free what is held as `name`; it stays reserved."""
        block = self._held.pop(name)
        self.pinned_bytes += block.segment.pin(block, -1)
        block.free = True
        pool, after, before = block.pool, block.after, block.before
        if after is not None and after.free:
            pool.take(after)
            pool.join(block, after)
        if before is not None and before.free:
            pool.take(before)
            pool.join(before, block)
            block = before
        pool.put(block)

    def empty_cache(self) -> None:
        """Give back what is reserved for nothing. Where something is held, that changes no more than where later blocks
        come to lie, and is left out."""
        if not self._held:
            self._begin()

    def _block(
        self, address: int, size: int, pool: _Pool, segment: _Segment, before: _Block | None, after: _Block | None
    ) -> _Block:
        block = _Block(address, size, pool, segment, before, after)
        if segment is pool.growing and after is None:
            pool.last = block
        return block

    def _found(self, pool: _Pool, size: int) -> _Block | None:
        free = pool.free
        index = bisect.bisect_left(free, (size, 0))
        if index == len(free):
            return None
        if free[index][2] is pool.last and index + 1 < len(free):
            index += 1  # the block at the end counts as all that it can grow to
        return free.pop(index)[2]

    def _reserved(self, pool: _Pool, size: int) -> _Block:
        """A segment of its own for the block, as one page at a multiple of its size, above all others."""
        reserved = -(-size // SEGMENT_GRAIN) * SEGMENT_GRAIN if size >= OWN_SEGMENT else pool.segment_bytes
        self._segments_end = address = -(-self._segments_end // reserved) * reserved
        self._segments_end += reserved
        self.reserved_bytes += reserved
        return self._block(address, reserved, pool, _Segment(reserved), None, None)

    def _grown(self, pool: _Pool, size: int) -> _Block:
        """The free end of the pool's one segment, made as large as the block."""
        last = pool.last if pool.last is not None and pool.last.free else None
        grown = -(-(size - (last.size if last else 0)) // pool.segment_bytes) * pool.segment_bytes
        self.reserved_bytes += grown
        if last is None:
            end = pool.last.address + pool.last.size if pool.last else 0
            return self._block(end, grown, pool, pool.growing, pool.last, None)
        pool.take(last)
        last.size += grown
        return last


class Allocations:
    """Everything that is allocated and freed, in order, followed through both kinds of allocator."""

    def __init__(self) -> None:
        self.expandable, self.segments = Allocator(expandable=True), Allocator(expandable=False)
        self._both = (self.expandable, self.segments)
        self._events = array("q")
        self._numbers = 0

    def allocate(self, size: int) -> int:
        """The number of what is held from now on."""
        self._numbers = number = self._numbers + 1
        self._events.extend((number, size))
        self.expandable.allocate(number, size)
        self.segments.allocate(number, size)
        return number

    def release(self, number: int) -> None:
        """Free what `allocate` gave this number."""
        self._events.extend((number, 0))
        self.expandable.release(number)
        self.segments.release(number)

    def mark(self) -> int:
        """This moment, for `since`."""
        return len(self._events)

    def since(self, mark: int) -> Sequence[int]:
        """What was allocated and freed since then: pairs of a number and a size, which is 0 where it was freed."""
        return self._events[mark:]

    def replay(self, events: Sequence[int]) -> dict[int, int]:
        """Do it again. What was allocated then, by its number, and its number now if it is still held."""
        now: dict[int, int] = {}
        for number, size in zip(events[::2], events[1::2], strict=True):
            if size:
                now[number] = self.allocate(size)
            elif held := now.pop(number, 0):  # else it was held from before
                self.release(held)
        return now

    def empty_cache(self) -> None:
        """As torch's own."""
        for one in self._both:
            one.empty_cache()

    def reset_peak(self) -> None:
        """Start new peaks from what is held now."""
        for one in self._both:
            one.reset_peak()
