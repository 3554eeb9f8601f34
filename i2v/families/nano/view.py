"""The part of the picture that is seen, so small that no frame shows what lies beyond the picture's borders.

Film makers who move over a still begin inside of it where the motion leads out, and end at its border.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

ROUNDS = 16  # until the middle stands still: then less than 2e-6 of the short side can be seen beyond the border


@dataclass(frozen=True)
class View:
    """A pixel at `place` of the video is at `size * place + middle` of the picture: `size` () and `middle` (2,)."""

    size: Tensor
    middle: Tensor

    def seen(self, place: Tensor) -> Tensor:
        """Where `place` (2, H, W) of the video is in the picture."""
        return self.size * place + self.middle[:, None, None]


def widest(inverse: Tensor, shift: Tensor, reach: Tensor, aspect: float) -> View:
    """The largest view that stays within the picture at every time.

    `inverse` (K, 2, 2), `shift` (K, 2): at each time a point p of the video shows the plane's `inverse @ (p - shift)`;
    `reach` (K, 2): how far beyond that any part of the scene may come from. For a view of size s and middle c the
    plane's extent along an axis at time t is s E(t) about c + o(t), so within the picture's half side B for all times
    where s (E(t) + E(t')) <= 2 B + o(t) - o(t') for every pair of times.
    """
    half = torch.tensor([aspect / 2, 0.5] if aspect >= 1 else [0.5, 0.5 / aspect]).to(shift)
    extent = inverse.abs() @ half
    size, middle = half.new_ones(()), torch.zeros_like(half)
    for _ in range(ROUNDS):
        # What a frame shows is inverse @ (s p + c - shift): where it lies depends on the middle that is looked for.
        offset = torch.einsum("kde,ke->kd", inverse, middle - shift) - middle
        low, high = offset - reach, offset + reach
        room = 2 * half + low[:, None] - high[None]
        size = (room / (extent[:, None] + extent[None])).amin().clamp(0.25, 1.0)
        least = (size * extent - half - low).amax(0)
        most = (half - size * extent - high).amin(0)
        middle = torch.minimum(torch.maximum(torch.zeros_like(least), least), most)
    return View(size, middle)
