"""One denoising step of a long clip: the network is asked about one window of frames after the other, and its answers
are fused. What belongs to the whole clip lies on the host; the card holds one window, however long the clip is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from i2v.families.long_clips import LongClips
from i2v.memory.card import Card

Told = Callable[[int, int], None]
"""Is told after each window how many of a step's windows are made, and how many there are."""

_told: ContextVar[Told] = ContextVar("told", default=lambda made, windows: None)


@contextmanager
def telling(told: Told) -> Iterator[None]:
    """For the time of the `with`, `told` hears of every window. What it raises ends the step."""
    token = _told.set(told)
    try:
        yield
    finally:
        _told.reset(token)


def fused(card: Card, long: LongClips, clip: Tensor, predict: Callable[[slice], Tensor]) -> Tensor:
    """What the network says of all of `clip` (1, C, F, h, w), on the host as `clip` is. `predict` asks it about one
    window of frames, on the card. Summed in float32, each window by `LongClips.weights`."""
    windows = long.windows(clip.shape[2])
    with card.on_host():
        weights = torch.tensor(long.weights(), dtype=torch.float32).view(1, 1, -1, 1, 1)
        total = torch.zeros(clip.shape, dtype=torch.float32)
        counted = torch.zeros(1, 1, clip.shape[2], 1, 1)
    for number, window in enumerate(windows, start=1):
        answer = card.to_host(predict(window))
        with card.on_host():
            total[:, :, window] += answer.float() * weights
            counted[:, :, window] += weights
        del answer
        _told.get()(number, len(windows))
    with card.on_host():
        return (total / counted).to(clip.dtype)
