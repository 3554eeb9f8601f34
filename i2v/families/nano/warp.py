"""Render motion fields over the full-size photograph: detail stays the photograph's own at any resolution.

Fields say where each cell of the first frame goes. At a working resolution they are refined along the photograph's
edges, turned into "where does this pixel come from" by forward splatting (near covers far, gaps take what lies
behind), and the photograph is sampled once per frame, mirrored beyond its borders. Nothing here depends on a
tensor's values, so that the dry run can follow it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from i2v.families.nano.fields import positions, unpack

WORKING_SIDE = 288  # pixels of the longer side at which fields are refined and splatted
MARGIN = 0.3  # of the working size, splatted from beyond each border
REACH = 2  # cells: each working pixel listens to (2 * REACH + 1) ** 2 cells around it
COLOUR_SIGMA = 0.10
COLOUR_FLOOR = 0.02  # the voice of a cell of quite another colour
LIGHT_GRAIN = 0.04  # of light's logarithm, taken off
SOFTNESS = 5  # working pixels over which a boundary of motion is spread
DEPTH_SHARPNESS = 9.0  # near over far by exp(9 * difference)
HOLE_LEVELS = 6


class MotionDecoder(nn.Module):
    """Latents and a photograph in, frames out. It has no weights; it is a module so that the engine can place it."""

    def forward(self, picture: Tensor, latents: Tensor) -> list[Tensor]:
        """All frames of `render` at once: each (3, H, W) float in 0..1."""
        return [
            self.render(picture, scene, index)
            for scene in [self.refine(picture, latents)]
            for index in range(latents.shape[2])
        ]

    def refine(self, picture: Tensor, latents: Tensor) -> Refined:
        """Fields (2, F, H', W') at the working resolution from `picture` (1, 3, H, W) and `latents` (1, 4, F, h, w)."""
        height, width = picture.shape[-2:]
        scale = min(1.0, WORKING_SIDE / max(height, width))
        size = (max(8, round(height * scale)), max(8, round(width * scale)))
        guide = functional.interpolate(picture, size=size, mode="area")
        displacement, near, light = (part[0].float() for part in unpack(latents.float()))
        displacement = _from_rest(displacement)
        aspect = width / height
        cells = positions(*latents.shape[-2:], aspect).to(displacement)
        affine = _affine(displacement, cells)
        rest = displacement - _evaluate(affine, cells)
        weights = _cell_weights(guide, latents.shape[-2:])
        near = near.mean(1, keepdim=True)
        return Refined(
            affine=affine,
            rest=_soften(_upsample(rest, weights)),
            near=_soften(_upsample(near, weights))[:, 0],
            light=_steady_light(light),
        )

    def render(self, picture: Tensor, refined: Refined, index: int) -> Tensor:
        """Frame `index` (3, H, W) float in 0..1; `picture` (1, 3, H, W). Frame 0 is the photograph itself."""
        if index == 0:
            return picture[0]
        height, width = picture.shape[-2:]
        backward = _splat(refined, index, width / height)
        backward = functional.interpolate(backward[None], size=(height, width), mode="bicubic", align_corners=False)[0]
        place = positions(height, width, width / height).to(picture) + backward
        short = min(height, width)
        grid = torch.stack([place[0] * (2 * short / width), place[1] * (2 * short / height)], dim=-1)
        frame = functional.grid_sample(
            picture, grid[None], mode="bicubic", padding_mode="reflection", align_corners=False
        )
        light = functional.interpolate(
            refined.light[None, :, index], size=(height, width), mode="bicubic", align_corners=False
        )
        # Dusk is blue: red fades first.
        tint = light.clamp(max=0) * light.new_tensor([0.12, 0.0, -0.15]).view(1, 3, 1, 1)
        return (frame * torch.exp(light + tint)).clamp(0, 1)[0]


@dataclass(frozen=True)
class Refined:
    """Fields at the working resolution: an affine part per frame (2, F, 3), exact everywhere, the rest (2, F, H', W'),
    nearness (1, H', W'), and light still by cell (1, F, h, w)."""

    affine: Tensor
    rest: Tensor
    near: Tensor
    light: Tensor

    def displacement(self, index: int, aspect: float) -> Tensor:
        """Where each working pixel of the first frame is in frame `index`, as an offset (2, H', W')."""
        place = positions(*self.rest.shape[-2:], aspect).to(self.rest)
        return _evaluate(self.affine[:, index : index + 1], place)[:, 0] + self.rest[:, index]


def _from_rest(displacement: Tensor) -> Tensor:
    """Displacement (2, F, h, w) that is zero in the first frame, and smooth over time as what moves is."""
    frames = displacement.shape[1]
    fade = torch.exp(-torch.arange(frames, device=displacement.device) / 3.0).view(1, -1, 1, 1)
    displacement = displacement - displacement[:, :1] * fade
    if frames < 4:
        return displacement
    last = 2 * displacement[:, -1:] - displacement[:, -2:-1]
    padded = torch.cat([-displacement[:, 1:2], displacement, last], dim=1)
    return (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4


def _steady_light(light: Tensor) -> Tensor:
    """Light (1, F, h, w) without the grain that denoising leaves: none in the first frame, smooth over cells and time,
    and nothing where there was next to nothing."""
    light = light - light[:, :1] * torch.exp(-torch.arange(light.shape[1], device=light.device) / 3.0).view(1, -1, 1, 1)
    for _ in range(2):
        light = functional.avg_pool2d(functional.pad(light, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    padded = torch.cat([light[:, :1], light, light[:, -1:]], dim=1)
    light = (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4
    return functional.softshrink(light, LIGHT_GRAIN)


def _affine(displacement: Tensor, cells: Tensor) -> Tensor:
    """The best affine motion of each frame (2, F, 3): what a camera does to a flat scene."""
    basis = _basis(cells).flatten(1)  # (3, N)
    solve = torch.linalg.inv(basis @ basis.T) @ basis
    return torch.einsum("dfn,kn->dfk", displacement.flatten(2), solve)


def _basis(place: Tensor) -> Tensor:
    return torch.cat([torch.ones_like(place[:1]), place])


def _evaluate(affine: Tensor, place: Tensor) -> Tensor:
    """(2, F, H, W) of an affine motion (2, F, 3) at `place` (2, H, W)."""
    return torch.einsum("dfk,khw->dfhw", affine, _basis(place))


def _cell_weights(guide: Tensor, cells: tuple[int, int]) -> Tensor:
    """How much each working pixel listens to the cells around it, ((2R+1)^2, H', W'): close ones, of its own colour."""
    h, w = cells
    height, width = guide.shape[-2:]
    colours = functional.interpolate(guide, size=(h, w), mode="area")
    y = (torch.arange(height, device=guide.device) + 0.5) / height * h - 0.5
    x = (torch.arange(width, device=guide.device) + 0.5) / width * w - 0.5
    rows, columns = _home(height, h, guide.device), _home(width, w, guide.device)
    weights = []
    for dy in range(-REACH, REACH + 1):
        for dx in range(-REACH, REACH + 1):
            row, column = (rows + dy).clamp(0, h - 1), (columns + dx).clamp(0, w - 1)
            away = (y - rows - dy)[:, None] ** 2 + (x - columns - dx)[None] ** 2
            close = (1 - away / (REACH + 0.4) ** 2).clamp_min(0) ** 3
            contrast = ((guide[0] - colours[0][:, row][:, :, column]) ** 2).sum(0)
            weights.append(close * (COLOUR_FLOOR + torch.exp(-contrast / (2 * COLOUR_SIGMA**2 * 3))))
    stacked = torch.stack(weights)
    return stacked / stacked.sum(0, keepdim=True)


def _home(pixels: int, cells: int, device: torch.device) -> Tensor:
    """The cell each pixel of a row lies in."""
    return ((torch.arange(pixels, device=device) + 0.5) / pixels * cells).long().clamp(max=cells - 1)


def _upsample(fields: Tensor, weights: Tensor) -> Tensor:
    """Fields (C, F, h, w) at the working resolution, by `_cell_weights`."""
    h, w = fields.shape[-2:]
    height, width = weights.shape[-2:]
    rows, columns = _home(height, h, fields.device), _home(width, w, fields.device)
    result = fields.new_zeros(*fields.shape[:2], height, width)
    index = 0
    for dy in range(-REACH, REACH + 1):
        for dx in range(-REACH, REACH + 1):
            row, column = (rows + dy).clamp(0, h - 1), (columns + dx).clamp(0, w - 1)
            result += fields[..., row, :][..., column] * weights[index]
            index += 1
    return result


def _soften(fields: Tensor) -> Tensor:
    """Fields (C, F, H, W) blurred over a few working pixels: a boundary stretches a little rather than tears."""
    pad = SOFTNESS // 2
    for _ in range(2):
        fields = functional.avg_pool2d(
            functional.pad(fields, (pad, pad, pad, pad), mode="replicate"), SOFTNESS, stride=1
        )
    return fields


def _splat(refined: Refined, index: int, aspect: float) -> Tensor:
    """Where each working pixel of frame `index` comes from, as an offset (2, H', W') in short sides."""
    height, width = refined.rest.shape[-2:]
    top, left = round(height * MARGIN), round(width * MARGIN)
    tall, wide = height + 2 * top, width + 2 * left
    short = min(height, width)
    device = refined.rest.device
    y = (torch.arange(tall, device=device) - top + 0.5) / short - height / short / 2
    x = (torch.arange(wide, device=device) - left + 0.5) / short - width / short / 2
    place = torch.stack([x.expand(tall, wide), y[:, None].expand(tall, wide)])
    pad = (left, left, top, top)
    rest = functional.pad(refined.rest[None, :, index], pad, mode="replicate")[0]
    near = functional.pad(refined.near[None], pad, mode="replicate")[0]
    forward = _evaluate(refined.affine[:, index : index + 1], place)[:, 0] + rest
    target = (place + forward) * short
    column = target[0] + left + width / 2 - 0.5
    row = target[1] + top + height / 2 - 0.5
    priority = torch.exp(DEPTH_SHARPNESS * (near - 1))
    # What fills a gap is what lies behind it, so there far counts more than near.
    values = torch.cat([-forward * priority, priority, -forward * (1e-4 / priority), 1e-4 / priority]).flatten(1)
    total = values.new_zeros(values.shape[0], tall * wide)
    row0, column0 = row.floor(), column.floor()
    for step_y in (0, 1):
        for step_x in (0, 1):
            to_row, to_column = row0 + step_y, column0 + step_x
            share = (1 - (row - to_row).abs()) * (1 - (column - to_column).abs())
            inside = (to_row >= 0) & (to_row < tall) & (to_column >= 0) & (to_column < wide)
            where = to_row.clamp(0, tall - 1).long() * wide + to_column.clamp(0, wide - 1).long()
            total.index_add_(1, where.flatten(), values * (share * inside).flatten())
    total = total.view(-1, tall, wide)
    seen, weight = total[0:2], total[2:3]
    behind = _fill(total[3:5], total[5:6])
    sure = weight / (weight + 1e-4 * torch.exp(torch.tensor(-DEPTH_SHARPNESS, device=device)))
    offset = sure * seen / weight.clamp_min(1e-12) + (1 - sure) * behind
    return offset[:, top : top + height, left : left + width]


def _fill(values: Tensor, weight: Tensor) -> Tensor:
    """Weighted means (C, H, W) where there is weight (1, H, W), from ever wider surroundings where there is none."""
    pyramid = [(values[None], weight[None])]
    for _ in range(HOLE_LEVELS):
        values, weight = (functional.avg_pool2d(part, 2, ceil_mode=True) for part in pyramid[-1])
        pyramid.append((values, weight))
    values, weight = pyramid[-1]
    filled = values / weight.clamp_min(1e-12)
    for values, weight in reversed(pyramid[:-1]):
        wider = functional.interpolate(filled, size=values.shape[-2:], mode="bilinear", align_corners=False)
        sure = weight / (weight + 2e-6)
        filled = sure * values / weight.clamp_min(1e-12) + (1 - sure) * wider
    return filled[0]
