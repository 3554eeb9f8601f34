"""How people, settings and plans name the window in which an autoencoder of videos works: frames x rows x columns of
latents, such as 17x16x16, or OWN."""

from __future__ import annotations

import re
from dataclasses import dataclass

OWN = "own"
"""The window that diffusers uses for the model: the only one whose picture is the model's own."""
LEAST, MOST = (3, 4, 4), 1024
"""Frames, rows and columns that a window has at least, since windows overlap by a quarter and each must bring more than
it repeats; and at most, which is beyond every clip."""
_WRITTEN = re.compile(r"(\d{1,9})\s*[x×]\s*(\d{1,9})\s*[x×]\s*(\d{1,9})", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True)
class VaeWindow:
    """A window's sides in latents. The first of its frames stands alone: 17 are one and sixteen more."""

    frames: int
    rows: int
    columns: int

    @classmethod
    def read(cls, written: str) -> VaeWindow | None:
        """The window that is `written`, whatever its size; None where that is no window."""
        found = _WRITTEN.fullmatch(written.strip())
        return cls(*map(int, found.groups())) if found else None

    @property
    def sides(self) -> tuple[int, int, int]:
        return self.frames, self.rows, self.columns

    @property
    def works(self) -> bool:
        """Whether every side is from LEAST to MOST."""
        return all(least <= side <= MOST for least, side in zip(LEAST, self.sides, strict=True))

    def holds(self, other: VaeWindow) -> bool:
        """Whether no side of `other` is longer."""
        return all(mine >= side for mine, side in zip(self.sides, other.sides, strict=True))

    def __str__(self) -> str:
        return "x".join(map(str, self.sides))
