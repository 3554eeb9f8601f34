"""Where in the photograph what was asked for lives: where a person painted, else where the finder sees it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from i2v.families.nano.life import PLACED

SURE = (0.5, 0.7)  # mean of the found map over what it covers: below the first nothing lives, above the second all does
LEAST = (0.004, 0.012)  # and the share of the photograph that it must cover


@dataclass(frozen=True)
class Wish:
    """What was asked for: how much of each living motion (9,), 1 in all, how much the camera is held by hand (), and
    how much it moves ()."""

    living: Tensor
    held: Tensor
    moves: Tensor

    @classmethod
    def of(cls, read: Tensor) -> Wish:
        """From what `Reader.wish` made of one sentence (1, 11)."""
        living, held, moves = read[0].float().split((read.shape[-1] - 2, 1, 1))
        return cls(living, held[0], moves[0])

    @property
    def placed(self) -> Tensor:
        """() how much of what is asked for lives at a place of its own."""
        return self.living[: len(PLACED)].sum()


@dataclass(frozen=True)
class Place:
    """`brushed` (1, 1, H, W) is what a person painted, if `painted` (1, 1, 1, 1) is 1 and not 0; `found` (1, 1, h, w)
    where the finder sees what was asked for, and how `sure` () it is of that."""

    brushed: Tensor
    painted: Tensor
    found: Tensor
    sure: Tensor

    @property
    def known(self) -> Tensor:
        """(1, 1, 1, 1) 1 where it is known what lives, 0 where it is not."""
        return self.painted + (1 - self.painted) * self.sure


def place_of(wish: Wish, region: Tensor, found: Tensor) -> Place:
    """`region` (1, 2, H, W): what a person painted, and 1 everywhere if one did; `found` (1, 5, h, w): where each of
    `life.PLACED` can be."""
    wanted = (wish.living[: len(PLACED)].view(1, -1, 1, 1) * found.float()).sum(1, keepdim=True)
    brushed, painted = region.float().split(1, dim=1)
    return Place(brushed, painted[..., :1, :1], wanted, sureness(wanted))


def sureness(found: Tensor) -> Tensor:
    """() 1 where a map (1, 1, h, w) of probabilities says where it is, and 0 where it hesitates everywhere or covers
    next to nothing."""
    covered = found.square().sum() / found.sum().clamp_min(1e-3)
    return smooth_step(covered, *SURE) * smooth_step(found.mean(), *LEAST)


def smooth_step(value: Tensor, low: float, high: float) -> Tensor:
    """0 up to `low`, 1 from `high` on, and smooth between."""
    share = ((value - low) / (high - low)).clamp(0, 1)
    return share * share * (3 - 2 * share)
