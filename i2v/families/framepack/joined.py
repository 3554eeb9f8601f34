"""Pieces of a video that were decoded apart, as one: where two overlap, one fades into the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class DecodedPiece:
    """`clips` (n, 3, H, W), each some of its frames, and how many frames there are in all."""

    clips: Iterable[Tensor]
    count: int


def joined(pieces: Sequence[DecodedPiece], tail: Tensor, show: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:
    """What `show` makes of each frame of all `pieces` in order. The last frames of each piece are also the first of the
    next one, as many as `tail` (n, 3, H, W) has places, which keeps them until those come; so a piece between two
    others has 2 n frames or more. No clip is held while the next one is made."""
    overlap = len(tail)
    for number, piece in enumerate(pieces):
        kept_from = piece.count - overlap if number < len(pieces) - 1 else piece.count
        index = 0
        for clip in piece.clips:
            for frame in clip:
                if number > 0 and index < overlap:
                    weight = 1 - index / (overlap - 1)
                    yield show(weight * tail[index] + (1 - weight) * frame)
                elif index >= kept_from:
                    tail[index - kept_from] = frame
                else:
                    yield show(frame)
                index += 1
            del clip, frame
