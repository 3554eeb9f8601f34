"""How what lives moves in time: periodic, so that a clip loops, and only within its region.

Life is looked up backwards, in the places of the first frame: outside of the region nothing is drawn from anywhere
else, so rock beside a brook stays as it is, and nothing tears. Water and clouds go one way for ever: two copies of the
picture, half a period apart, are drawn along and faded into each other, each invisible when it begins anew (Neyret,
2003, "Advected textures"). What stands rooted sways, what breathes swells and sinks, what opens opens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

LIVING = ("water", "sway", "petals", "breathing", "clouds", "flicker", "night", "day")
PLACED = LIVING[:5]  # what lives at its own place in the picture, which has to be found
FLOWS = 0.5  # periods a second in which a flow begins anew; its pictures are never drawn farther than half of that
CLOUD_FLOWS = 0.125
SWAYS = (0.5, 0.75)  # periods a second, and beside it
SWAY_SHARES = (1.0, 0.35)
SWAY_LAG = 3.2  # radians that a gust needs over a short side
BREATHS = 0.3
FLICKERS = (1.4, 2.1, 3.1)
RIPPLES = ((0.16, 0.25, 0.8), (0.26, -0.2, 0.55))  # length in short sides, slant in radians, periods a second
RIPPLE_SIZE = 0.0035  # short sides


@dataclass(frozen=True)
class Moment:
    """Everything that frame `index` of `frames`, `seconds` in all, needs of time."""

    share: float
    seconds: float

    @classmethod
    def of(cls, index: int, frames: int, fps: float) -> Moment:
        return cls(index / frames, frames / fps)

    def turns(self, rate: float) -> float:
        """How many periods of about `rate` a second have passed, as many of them whole as fit into the clip."""
        return self.share * max(1, round(rate * self.seconds))

    def swing(self, rate: float, phase: float = 0.0) -> float:
        """A sine less its value at the beginning."""
        return math.sin(2 * math.pi * self.turns(rate) + phase) - math.sin(phase)


def displacement(moment: Moment, living: Tensor, wish: Tensor, place: Tensor) -> Tensor:
    """Where what is rooted has gone, (2, H, W): it sways, breathes or opens as far as `living` (2, H, W) says; what
    `wish` (9,) is not asked for by stands. Water ripples beside its flow. `place` (2, H, W) in short sides."""
    water, sway, petals, breathing = wish[:4]
    lag = -SWAY_LAG * (place[0] + 0.5)
    gust = torch.zeros_like(lag)
    for rate, share, pace in zip(SWAYS, SWAY_SHARES, (1.0, 1.7), strict=True):
        turn = 2 * math.pi * moment.turns(rate)
        gust = gust + share * (torch.sin(turn + pace * lag) - torch.sin(pace * lag))
    breath = (1 - math.cos(2 * math.pi * moment.turns(BREATHS))) / 2
    opened = moment.share**2 * (3 - 2 * moment.share)
    return living * (sway * gust + breathing * breath + petals * opened) + water * _ripples(moment, place)


def _ripples(moment: Moment, place: Tensor) -> Tensor:
    """Small waves with crests across the picture that run towards the viewer (2, H, W)."""
    total = torch.zeros_like(place[0])
    for length, slant, rate in RIPPLES:
        along = 2 * math.pi / length * (math.sin(slant) * place[0] + math.cos(slant) * place[1])
        turn = 2 * math.pi * moment.turns(rate)
        total = total + torch.sin(along - turn) - torch.sin(along)
    return RIPPLE_SIZE * torch.stack([0.5 * total, total])


def phases(moment: Moment, rate: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Of both copies of a flow: how far along its period it is drawn, -0.5 to 0.5, and how much it counts. At the
    clip's beginning and end the first counts nothing and the second is the picture as it stands."""
    result = []
    for late in (0.0, 0.5):
        phase = (moment.turns(rate) + late) % 1.0
        result.append((phase - 0.5, 1 - abs(2 * phase - 1)))
    return result[0], result[1]


def faded(first: Tensor, second: Tensor, weight: Tensor, mean: Tensor, moved: Tensor) -> Tensor:
    """Two pictures (3, H, W) of the same texture, `weight` of the first, around their common `mean`: with as much
    contrast as either has, which a plain mean would lose where they have `moved` apart (1, H, W)."""
    other = 1 - weight
    contrast = 1 + moved * (1 / torch.hypot(weight, other) - 1)
    return mean + contrast * (weight * (first - mean) + other * (second - mean))


@dataclass(frozen=True)
class Flow:
    """How far each of a flow's two copies is drawn (2, H, W), and how much the first counts, ()."""

    first: Tensor
    second: Tensor
    weight: Tensor


def flow(moment: Moment, living: Tensor, alive: Tensor, wish: Tensor) -> Flow:
    """Water goes its own way at each place; clouds as one sheet, by the mean way of all of them. `living` (2, H, W) is
    the way of a whole clip, `alive` (1, H, W)."""
    sheet = (living * alive).mean((1, 2), keepdim=True) / alive.mean().clamp_min(1e-3)
    drawn, weight = [torch.zeros_like(living), torch.zeros_like(living)], torch.zeros_like(wish[0])
    for share, way, rate in ((wish[0], living, FLOWS), (wish[4], sheet, CLOUD_FLOWS)):
        period = 1 / max(1, round(rate * moment.seconds))  # of the clip
        copies = phases(moment, rate)
        weight = weight + share * copies[0][1]
        for number, (along, _) in enumerate(copies):
            drawn[number] = drawn[number] + share * way * (along * period)
    return Flow(drawn[0], drawn[1], weight)


def light(moment: Moment, level: Tensor, wish: Tensor) -> Tensor:
    """Gain (1, h, w) from `level`, the logarithm of the gain at the clip's end: night and day in even steps of
    brightness; a flicker as strong as `level` says."""
    flicker, night, day = wish[5:8]
    even = 1 + (torch.exp(level) - 1) * moment.share
    pulse = sum(moment.swing(rate, 2 * rate) for rate in FLICKERS) / len(FLICKERS)
    return (night + day) * even + flicker * torch.exp(level * pulse) + (1 - night - day - flicker)


def sampled(picture: Tensor, place: Tensor, mode: str = "bicubic") -> Tensor:
    """`picture` (C, H, W) at `place` (2, H', W') in short sides from its middle."""
    height, width = picture.shape[-2:]
    short = min(height, width)
    grid = torch.stack([place[0] * (2 * short / width), place[1] * (2 * short / height)], dim=-1)
    return functional.grid_sample(
        picture[None], grid[None].to(picture), mode=mode, padding_mode="border", align_corners=False
    )[0]
