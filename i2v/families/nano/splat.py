"""Forward splatting: which place of the first frame each pixel of a later frame comes from.

What the camera does to a plane is undone exactly, at any resolution; only what is left, parallax, is splatted, on a
grid that the plane's motion has been taken off. Near covers far. A boundary that is stretched too far is torn, its
pixels dropped: the silhouette stays sharp, and the gap behind it takes the colour of what is farther away, diffused in
from ever wider surroundings.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

MARGIN = 0.06  # of the working size: the view keeps what is farther beyond the border out of sight
DEPTH_SHARPNESS = 9.0  # near over far by exp(9 * difference)
GAP_SHARPNESS = 20.0  # and in a gap far over near
HOLE_LEVELS = 6
WIDER = 0.03  # the voice of surroundings twice as wide
PINHOLE = 3  # working pixels; a gap narrower than this in what is near is no gap
PINHOLE_SHARE = 0.6  # of the weight around it, below which a pixel is such a gap
TEAR = 0.5  # stretched by more than this, a boundary is torn: its pixels are dropped and the gap is filled


@dataclass(frozen=True)
class Scene:
    """What is known of the first frame at the working resolution: nearness (1, H', W') and its mean (), and the
    photograph's colour (3, H', W')."""

    near: Tensor
    middle: Tensor
    colour: Tensor


@dataclass(frozen=True)
class Pose:
    """Where a camera is, (2, 6): three coefficients of `plane_basis`, and three of it times nearness less its mean."""

    coefficients: Tensor

    def displacement(self, place: Tensor, near: Tensor) -> Tensor:
        """Where what is at `place` (2, H, W) has gone (2, H, W); `near` (1, H, W) less its mean."""
        plane, parallax = self.parts(place)
        return plane + parallax * near

    def parts(self, place: Tensor) -> tuple[Tensor, Tensor]:
        """What moves all alike at `place` (2, H, W), and what goes with nearness, each (2, H, W)."""
        basis = plane_basis(place)
        plane, parallax = self.coefficients.split(3, dim=-1)
        return torch.einsum("dk,khw->dhw", plane, basis), torch.einsum("dk,khw->dhw", parallax, basis)

    def plane(self) -> tuple[Tensor, Tensor]:
        """The plane's motion, p -> A p + t, as the inverse of A (2, 2) and t (2,)."""
        plane = self.coefficients[:, :3]
        matrix = torch.eye(2, dtype=plane.dtype, device=plane.device) + plane[:, 1:]
        return torch.linalg.inv(matrix), plane[:, 0]


def plane_basis(place: Tensor) -> Tensor:
    """(3, H, W): what shifts, grows and shears a plane."""
    return torch.cat([torch.ones_like(place[:1]), place])


def source(scene: Scene, pose: Pose, seen: Tensor, aspect: float) -> tuple[Tensor, Tensor, Tensor]:
    """For each pixel that shows the plane at `seen` (2, H, W): the place of the first frame it comes from (2, H, W);
    the colour (3, H, W) of what lies behind, diffused in; how sure it is that the first frame shows it (1, H, W)."""
    fields = _splat(scene, pose, aspect)
    inverse, shift = pose.plane()
    place = torch.einsum("de,ehw->dhw", inverse, seen - shift[:, None, None])
    tall, wide = fields.shape[-2:]
    short = min(scene.near.shape[-2:])
    grid = torch.stack([place[0] * (2 * short / wide), place[1] * (2 * short / tall)], dim=-1)
    fields = functional.grid_sample(
        fields[None], grid[None], mode="bilinear", padding_mode="border", align_corners=False
    )[0]
    return place + fields[:2], fields[2:5], fields[5:]


def _splat(scene: Scene, pose: Pose, aspect: float) -> Tensor:
    """(6, H' and margins, W' and margins): where each working pixel, the plane's motion taken off, comes from, as an
    offset in short sides; the colour behind; and how sure it is."""
    height, width = scene.near.shape[-2:]
    top, left = round(height * MARGIN), round(width * MARGIN)
    tall, wide = height + 2 * top, width + 2 * left
    short = min(height, width)
    device = scene.near.device
    y = (torch.arange(tall, device=device) - top + 0.5) / short - height / short / 2
    x = (torch.arange(wide, device=device) - left + 0.5) / short - width / short / 2
    place = torch.stack([x.expand(tall, wide), y[:, None].expand(tall, wide)])
    pad = (left, left, top, top)
    near = functional.pad(scene.near[None], pad, mode="replicate")[0]
    parallax = pose.parts(place)[1]
    forward = torch.einsum("de,ehw->dhw", pose.plane()[0], parallax * (near - scene.middle))
    stretch = _slope(near) * parallax.square().sum(0).sqrt() * short
    whole = (stretch < TEAR).to(forward)
    target = (place + forward) * short
    column = target[0] + left + width / 2 - 0.5
    row = target[1] + top + height / 2 - 0.5
    # In a gap what lies behind counts, so there far counts more than near.
    priority, behind = whole * torch.exp(DEPTH_SHARPNESS * (near - 1)), whole * torch.exp(-GAP_SHARPNESS * near)
    colour = functional.pad(scene.colour[None], pad, mode="reflect")[0]
    values = torch.cat([-forward * priority, priority, torch.cat([-forward, colour]) * behind, behind]).flatten(1)
    total = values.new_zeros(values.shape[0], tall * wide)
    row0, column0 = row.floor(), column.floor()
    for step_y in (0, 1):
        for step_x in (0, 1):
            to_row, to_column = row0 + step_y, column0 + step_x
            share = (1 - (row - to_row).abs()) * (1 - (column - to_column).abs())
            inside = (to_row >= 0) & (to_row < tall) & (to_column >= 0) & (to_column < wide)
            where = to_row.clamp(0, tall - 1).long() * wide + to_column.clamp(0, wide - 1).long()
            with _in_order(device):
                total.index_add_(1, where.flatten(), values * (share * inside).flatten())
    total = total.view(-1, tall, wide)
    total = torch.cat([_without_pinholes(total[:3]), total[3:]])
    weight = total[2:3]
    filled = _fill(total[3:-1], total[-1:])
    sure = weight / (weight + 1e-4 * torch.exp(torch.tensor(-DEPTH_SHARPNESS, device=device)))
    offset = sure * total[0:2] / weight.clamp_min(1e-20) + (1 - sure) * filled[:2]
    return torch.cat([offset, filled[2:], sure])


@contextmanager
def _in_order(device: torch.device) -> Iterator[None]:
    """Sums on a card in the same order each time, so that the same seed gives the same bytes: otherwise its threads add
    as they come."""
    before = torch.are_deterministic_algorithms_enabled()
    if device.type != "cpu":
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def _without_pinholes(sums: Tensor) -> Tensor:
    """Offsets and weight (3, H, W) where a surface that grew to more than twice its size left single pixels between
    its own: what lies far behind shows there, and is outweighed all around. Such pixels take their neighbours' mean."""
    weight = sums[None, 2:]
    around = functional.max_pool2d(weight, PINHOLE, stride=1, padding=PINHOLE // 2)
    closed = -functional.max_pool2d(-around, PINHOLE, stride=1, padding=PINHOLE // 2)
    mean = functional.avg_pool2d(sums[None], PINHOLE, stride=1, padding=PINHOLE // 2)[0]
    return torch.where(weight[0] < PINHOLE_SHARE * closed[0], mean, sums)


def _slope(field: Tensor) -> Tensor:
    """How steeply (1, H, W) changes from one pixel to its neighbours."""
    padded = functional.pad(field[None], (1, 1, 1, 1), mode="replicate")[0]
    across, down = padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2], padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]
    return (across.square() + down.square()).sqrt() / 2


def _fill(values: Tensor, weight: Tensor) -> Tensor:
    """Means (C, H, W) of `values` (sums already weighted) by `weight` (1, H, W), of ever wider surroundings where
    there is little of it."""
    pyramid = [torch.cat([values, weight])[None]]
    for _ in range(HOLE_LEVELS):
        pyramid.append(functional.avg_pool2d(pyramid[-1], 2, ceil_mode=True))
    sums = pyramid[-1]
    for finer in reversed(pyramid[:-1]):
        wider = functional.interpolate(sums, size=finer.shape[-2:], mode="bilinear", align_corners=False)
        sums = finer + WIDER * wider
    return sums[0, :-1] / sums[0, -1:].clamp_min(1e-30)
