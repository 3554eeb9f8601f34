"""Where FramePack's sections lie in a video, and what each of them looks back at. No torch here.

A video of S sections has 1 + 9 S latent frames: the picture's, then 9 of each section. Two ways of making them: one
after the other from the first (`forward`), or from the last to the first, where each sees what comes after it. What
is made already is seen as three pieces: 1 latent frame as it is, 2 at half the size, 16 at a quarter of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WINDOW = 9  # latent frames of a section
NEAR, MIDDLE, FAR = 1, 2, 16  # latent frames that a section looks back at, the nearest first
HISTORY = NEAR + MIDDLE + FAR
FRAMES = 4 * WINDOW  # that a section adds to a video
OVERLAP = 4 * (WINDOW - 1) + 1  # frames in which two decoded pieces of a video are blended
FEW_SECTIONS = 4  # with more than these, distances to the picture are no longer told as they are


@dataclass(frozen=True)
class Section:
    """One section. `number`: its place in the video, from 0. `places`: of its latent frames, as the network is told of
    them, and of what it looks back at, nearest first."""

    number: int
    places: range
    near: range
    middle: range
    far: range

    @property
    def frames(self) -> slice:
        """Its latent frames in those of the video."""
        return slice(1 + WINDOW * self.number, 1 + WINDOW * (self.number + 1))


def sections(num_frames: int) -> int:
    """Of how many a video of so many frames is made."""
    return max(1, -(-(num_frames - 1) // FRAMES))


def section(index: int, count: int, forward: bool) -> Section:
    """The one that is made as number `index` of `count`."""
    if forward:
        ends = _ranges(1, FAR, MIDDLE, NEAR, WINDOW)
        return Section(index, ends[3], near=ends[2], middle=ends[1], far=ends[0])
    padding = _paddings(count)[index] * WINDOW
    places, near, middle, far = _ranges(1 + padding, WINDOW, NEAR, MIDDLE, FAR)
    return Section(count - 1 - index, places, near, middle, far)


def decoded_together(count: int, forward: bool) -> Sequence[slice]:
    """The pieces of the video's latent frames that are decoded, in the order of the video; each overlaps with the next
    by OVERLAP frames."""
    end = 1 + WINDOW * count
    if forward:
        later = (slice(1 + WINDOW * number, 1 + WINDOW * (number + 2)) for number in range(count - 1))
        return slice(0, 1 + WINDOW), *later
    later = (slice(1 + WINDOW * number, min(end, 1 + WINDOW * (number + 2))) for number in range(1, count))
    return slice(0, min(end, 1 + WINDOW * 2)), *later


def _paddings(count: int) -> Sequence[int]:
    """How many sections each one is told that there are between it and the picture, by the order of making."""
    if count <= FEW_SECTIONS:
        return range(count - 1, -1, -1)
    return [3, *[2] * (count - 3), 1, 0]


def _ranges(begin: int, *lengths: int) -> list[range]:
    """Ranges of these lengths, one after the other from `begin` on."""
    made = []
    for length in lengths:
        made.append(range(begin, begin + length))
        begin += length
    return made
