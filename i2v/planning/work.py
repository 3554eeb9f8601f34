"""How much work an operation is: floating-point operations and bytes moved, and the time a card needs for them.

An operation takes the longer of computing and moving (the roofline of Williams, Waterman and Patterson, 2009) plus a
launch. The sum over a phase's operations, as a function of the card, depends on one number alone: the ridge, how many
operations the card does in the time it moves a byte. It is kept at a few ridges, so that a phase of ten thousand
operations takes fourteen numbers and any card's time can be read from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

RIDGES = tuple(4.0 * 2.0 ** (index / 2) for index in range(17))  # 4 to 1024 operations per byte


@dataclass(frozen=True)
class Work:
    """`curve[i]`: the sum over operations of max(flops, RIDGES[i] * bytes); `launches`: how many operations;
    `transfer_bytes`: from the host to the card; `convolution_flops`: of the operations those of convolutions,
    and of these `wide_convolution_flops` those in float32."""

    curve: tuple[float, ...] = (0.0,) * len(RIDGES)
    launches: float = 0
    transfer_bytes: float = 0
    convolution_flops: float = 0
    wide_convolution_flops: float = 0

    def __add__(self, other: Work) -> Work:
        curve = tuple(a + b for a, b in zip(self.curve, other.curve, strict=True))
        pairs = zip(self._numbers(), other._numbers(), strict=True)
        return Work(curve, *(one + more for one, more in pairs))

    def __mul__(self, times: float) -> Work:
        return Work(tuple(value * times for value in self.curve), *(one * times for one in self._numbers()))

    def _numbers(self) -> tuple[float, ...]:
        return self.launches, self.transfer_bytes, self.convolution_flops, self.wide_convolution_flops

    def to_json(self) -> list[float]:
        """All numbers in one row, the curve last: tables have thousands."""
        return [*self._numbers(), *self.curve]

    @classmethod
    def from_json(cls, values: Sequence[float]) -> Work:
        """Read back what `to_json` made. Raises ValueError where it is as long as another version's."""
        launches, transfer_bytes, convolution_flops, wide_flops, *curve = map(float, values)
        if len(curve) != len(RIDGES):
            raise ValueError(f"{len(curve)} ridges instead of {len(RIDGES)}")
        return cls(tuple(curve), launches, int(transfer_bytes), convolution_flops, wide_flops)

    @classmethod
    def of(cls, flops: float, moved_bytes: float) -> Work:
        """One operation."""
        return cls(tuple(max(flops, ridge * moved_bytes) for ridge in RIDGES), 1)

    def at_ridge(self, ridge: float) -> float:
        """The curve at any ridge: between two, on the line that joins them, which is never too low since the curve
        is convex; beyond the ends, in proportion to the ridge or constant."""
        return interpolate(self.curve, ridge)


NO_WORK = Work()


def interpolate(curve: Sequence[float], ridge: float) -> float:
    if ridge >= RIDGES[-1]:
        return curve[-1] * ridge / RIDGES[-1]
    if ridge <= RIDGES[0]:
        return curve[0]
    upper = next(index for index, value in enumerate(RIDGES) if value >= ridge)
    low, high = RIDGES[upper - 1], RIDGES[upper]
    share = (ridge - low) / (high - low)
    return curve[upper - 1] * (1 - share) + curve[upper] * share
