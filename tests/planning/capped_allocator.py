"""A card with a limit under torch's caching allocator, written as plainly as can be: lists of pieces, all looked at
every time. What `i2v/dryrun/allocator.py` says a card needs is held against it."""

from __future__ import annotations

from dataclasses import dataclass, field

MIB = 2**20
ENDLESS = 2**60


class OutOfMemory(Exception):
    """The limit is reached, and nothing can be given back."""


@dataclass
class Piece:
    address: int
    size: int
    state: str  # "held", "free", or "unmapped": part of an expandable segment without memory


@dataclass
class Segment:
    small: bool
    pieces: list[Piece]


@dataclass
class CappedCard:
    limit_bytes: int
    expandable: bool
    segments: list[Segment] = field(default_factory=list)
    held: dict[int, tuple[Segment, Piece]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.expandable:
            self.segments = [Segment(small, [Piece(0, ENDLESS, "unmapped")]) for small in (True, False)]

    @property
    def reserved_bytes(self) -> int:
        return sum(piece.size for segment in self.segments for piece in segment.pieces if piece.state != "unmapped")

    def allocate(self, name: int, size: int) -> None:
        size = -(-size // 512) * 512
        small = size <= MIB
        segment, piece = self._best(small, size) or self._more(small, size)
        rest = piece.size - size
        if rest and (self.expandable or small or rest > MIB):
            piece.size = size
            at = segment.pieces.index(piece)
            segment.pieces.insert(at + 1, Piece(piece.address + size, rest, "free"))
        piece.state = "held"
        self.held[name] = segment, piece

    def release(self, name: int) -> None:
        segment, piece = self.held.pop(name)
        piece.state = "free"
        join(segment)

    def _best(self, small: bool, size: int) -> tuple[Segment, Piece] | None:
        fitting = [
            (piece.size, number, at)
            for number, segment in enumerate(self.segments)
            for at, piece in enumerate(segment.pieces)
            if segment.small == small and piece.state == "free" and piece.size >= size
        ]
        fitting.sort()
        if not fitting:
            return None

        def grown(found: tuple[int, int, int]) -> int:
            pieces = self.segments[found[1]].pieces
            after = pieces[found[2] + 1] if found[2] + 1 < len(pieces) else None
            return found[0] + (after.size if after is not None and after.state == "unmapped" else 0)

        best = 0
        while self.expandable and best + 1 < len(fitting) and grown(fitting[best + 1]) < grown(fitting[best]):
            best += 1
        segment = self.segments[fitting[best][1]]
        return segment, segment.pieces[fitting[best][2]]

    def _more(self, small: bool, size: int) -> tuple[Segment, Piece]:
        for _attempt in range(2):
            found = self._mapped(small, size) if self.expandable else self._segment(small, size)
            if found is not None:
                return found
            self.empty_cache()
        raise OutOfMemory

    def _segment(self, small: bool, size: int) -> tuple[Segment, Piece] | None:
        whole = 2 * MIB if small else 20 * MIB if size < 10 * MIB else -(-size // (2 * MIB)) * 2 * MIB
        if self.reserved_bytes + whole > self.limit_bytes:
            return None
        self.segments.append(Segment(small, [Piece(0, whole, "free")]))
        return self.segments[-1], self.segments[-1].pieces[0]

    def _mapped(self, small: bool, size: int) -> tuple[Segment, Piece] | None:
        segment = next(segment for segment in self.segments if segment.small == small)
        page = 2 * MIB if small else 20 * MIB
        for at, piece in enumerate(segment.pieces):
            if piece.state != "unmapped":
                continue
            first = at - 1 if at and segment.pieces[at - 1].state == "free" else at
            room, last = 0, first
            while room < size and last < len(segment.pieces) and segment.pieces[last].state != "held":
                room += segment.pieces[last].size
                last += 1
            if room < size:
                continue
            had = self.reserved_bytes
            missing, index = size, first
            while missing > 0:
                one = segment.pieces[index]
                if one.state == "unmapped":
                    mapped = min(one.size, -(-min(missing, one.size) // page) * page)
                    if had + mapped > self.limit_bytes:
                        join(segment)
                        return None
                    had += mapped
                    if mapped < one.size:
                        rest = Piece(one.address + mapped, one.size - mapped, "unmapped")
                        segment.pieces.insert(index + 1, rest)
                    one.size, one.state = mapped, "free"
                missing -= one.size
                index += 1
            start = segment.pieces[first].address
            join(segment)
            return segment, next(one for one in segment.pieces if one.address <= start < one.address + one.size)
        raise AssertionError("the segment has no end")

    def empty_cache(self) -> None:
        if not self.expandable:
            self.segments = [segment for segment in self.segments if any(p.state == "held" for p in segment.pieces)]
            return
        for segment in self.segments:
            page = 2 * MIB if segment.small else 20 * MIB
            pieces = []
            for piece in segment.pieces:
                start = -(-piece.address // page) * page
                end = (piece.address + piece.size) // page * page
                if piece.state != "free" or end <= start:
                    pieces.append(piece)
                    continue
                parts = (
                    Piece(piece.address, start - piece.address, "free"),
                    Piece(start, end - start, "unmapped"),
                    Piece(end, piece.address + piece.size - end, "free"),
                )
                pieces.extend(part for part in parts if part.size)
            segment.pieces = pieces
            join(segment)


def join(segment: Segment) -> None:
    """Neighbours of one state, but for held ones, are one piece."""
    pieces: list[Piece] = []
    for piece in segment.pieces:
        if pieces and piece.state != "held" and pieces[-1].state == piece.state:
            pieces[-1].size += piece.size
        else:
            pieces.append(piece)
    segment.pieces[:] = pieces
