"""Render motion fields over the full-size photograph: detail stays the photograph's own at any resolution.

Fields say where each cell of the first frame goes. What a camera does to a scene at rest is, to first order, a turn and
a scale of the plane plus a shift and a growth in proportion to inverse depth (Longuet-Higgins and Prazdny, 1980): each
frame's camera field is brought to the nearest such motion over the nearness map, and these follow a smooth path through
time, which leaves straight lines straight and none of the grain of denoising. Life moves by
its own field where the picture is alive. Nearness and life are refined along the photograph's edges at a working
resolution, turned into "where does this pixel come from" by forward splatting (see `splat`), and the photograph is
sampled once per frame, mirrored beyond its borders. Nothing here depends on a tensor's values, so that the dry run can
follow it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from i2v.families.nano.fields import positions, unpack
from i2v.families.nano.splat import Refined, source

WORKING_PIXELS = 288 * 288  # at which fields are refined and splatted, whatever the shape
REACH = 2  # cells: each working pixel listens to (2 * REACH + 1) ** 2 cells around it
COLOUR_SIGMA = 0.10
COLOUR_FLOOR = 0.02  # the voice of a cell of quite another colour
LIGHT_GRAIN = 0.04  # of light's logarithm, taken off where light is uneven
CAMERA_GRAIN = 0.0035  # short sides; a camera that moves less than this over a clip stands
PATH_GRAIN = 0.0025  # short sides; a camera that strays less than this from a smooth path keeps to it
LIGHT_EVEN_GRAIN, LIGHT_PATH_GRAIN = 0.015, 0.015  # of light's logarithm: both for light even over the picture
NEARNESS_RIDGE = 5e-4  # where nearness hardly varies it explains no motion
RIM_STEP = 0.1  # of nearness; less is no edge of a thing
ALIVE = (0.4, 0.7)  # of the most alive place: below the first nothing lives, above the second all of it moves
LEAST_ALIVE = 0.3  # unless no place is surer than this
SOFTNESS = 3  # working pixels over which a boundary of motion is spread
RIM = 5  # working pixels: what is near takes half of this of its surroundings along, as its edge is not of one pixel


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
        """What `render` needs of `picture` (1, 3, H, W) and `latents` (1, 7, F, h, w), at the working resolution."""
        height, width = picture.shape[-2:]
        scale = min(1.0, (WORKING_PIXELS / (height * width)) ** 0.5)
        size = (max(8, round(height * scale)), max(8, round(width * scale)))
        guide = functional.interpolate(picture, size=size, mode="area")
        motion = unpack(latents[0].float())
        near, alive = motion.near.mean(1).clamp(0, 1), motion.alive.mean(1)
        # A model that is unsure whether a thing lives says so of all of it: what counts is where it is surest.
        alive = alive / functional.avg_pool2d(alive, 3, stride=1).amax().clamp_min(LEAST_ALIVE)
        cells = positions(*latents.shape[-2:], width / height).to(near)
        weights = _cell_weights(guide, latents.shape[-2:])
        fine_near, fine_alive = _upsample(torch.cat([near, alive]), weights).split(1)
        fine_near, fine_alive = _with_rim(fine_near, fine_alive)
        living = functional.interpolate(
            _from_rest(motion.living).transpose(0, 1), size=size, mode="bicubic", align_corners=False
        ).transpose(0, 1)
        return Refined(
            camera=_camera(_from_rest(motion.camera), cells, near),
            living=living,
            near=_soften(fine_near),
            alive=_smooth_step(_soften(fine_alive), *ALIVE),
            middle=near.mean(),
            light=_steady_light(motion.light),
            colour=guide[0],
        )

    def render(self, picture: Tensor, refined: Refined, index: int) -> Tensor:
        """Frame `index` (3, H, W) float in 0..1; `picture` (1, 3, H, W). Frame 0 is the photograph itself."""
        if index == 0:
            return picture[0]
        height, width = picture.shape[-2:]
        place, behind, seen = source(refined, index, height, width)
        short = min(height, width)
        grid = torch.stack([place[0] * (2 * short / width), place[1] * (2 * short / height)], dim=-1)
        frame = functional.grid_sample(
            picture, grid[None].to(picture), mode="bicubic", padding_mode="reflection", align_corners=False
        )
        frame = frame * seen + behind * (1 - seen)
        light = functional.interpolate(
            refined.light[None, :, index], size=(height, width), mode="bicubic", align_corners=False
        )
        # Dusk is blue: red fades first.
        tint = light.clamp(max=0) * light.new_tensor([0.12, 0.0, -0.15]).view(1, 3, 1, 1)
        return (frame * torch.exp(light + tint)).clamp(0, 1)[0]


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
    """Light (1, F, h, w) without the grain that denoising leaves: none in the first frame; what differs from cell to
    cell smooth over cells and time, and nothing where it was next to nothing."""
    light = light - light[:, :1] * torch.exp(-torch.arange(light.shape[1], device=light.device) / 3.0).view(1, -1, 1, 1)
    even = light.mean((-2, -1), keepdim=True)
    light = light - even
    path = even.flatten()[None]
    smooth, one = _trend(path), path.new_ones(1, 1)
    path = smooth + _less_grain(path - smooth, one, LIGHT_PATH_GRAIN)
    even = _less_grain(path, one, LIGHT_EVEN_GRAIN).view_as(even)
    for _ in range(2):
        light = functional.avg_pool2d(functional.pad(light, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    padded = torch.cat([light[:, :1], light, light[:, -1:]], dim=1)
    light = (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4
    return even + functional.softshrink(light, LIGHT_GRAIN)


def _camera(displacement: Tensor, cells: Tensor, near: Tensor) -> Tensor:
    """The camera motion nearest to `displacement` (2, F, h, w) over `near` (1, h, w) at `cells` (2, h, w): (2, F, 6),
    three coefficients of `plane_basis`, and three of `plane_basis` times nearness less its mean.

    Seven numbers a frame: shift x and y, growth, turn, and shift x and y and growth in proportion to nearness."""
    basis = _camera_basis(cells, (near - near.mean())[0]).flatten(1, 2)
    ridge = torch.tensor([0.0, 0, 0, 0, 1, 1, 1], device=near.device) * (NEARNESS_RIDGE * basis.shape[1])
    solve = torch.linalg.inv(basis @ basis.T + torch.diag(ridge)) @ basis
    path = solve @ displacement.transpose(0, 1).flatten(1).T
    smooth = _trend(path)
    path = smooth + _less_grain(path - smooth, basis, PATH_GRAIN)
    x, y, grow, turn, near_x, near_y, near_grow = _less_grain(path, basis, CAMERA_GRAIN)
    none = torch.zeros_like(x)
    return torch.stack(
        [
            torch.stack([x, grow, -turn, near_x, near_grow, none], dim=-1),
            torch.stack([y, turn, grow, near_y, none, near_grow], dim=-1),
        ]
    )


def _camera_basis(cells: Tensor, depth: Tensor) -> Tensor:
    """(7, 2, N): the displacement of every cell for one unit of each of a camera's seven numbers."""
    x, y = cells.flatten(1)
    depth = depth.flatten()
    one, none = torch.ones_like(x), torch.zeros_like(x)
    pairs = [(one, none), (none, one), (x, y), (-y, x), (depth, none), (none, depth), (depth * x, depth * y)]
    return torch.stack([torch.stack(pair) for pair in pairs])


def _trend(path: Tensor) -> Tensor:
    """The quadratic through zero nearest to each row of `path` (K, F)."""
    frames = path.shape[1]
    if frames < 4:
        return path
    time = torch.arange(frames, device=path.device, dtype=path.dtype) / frames
    basis = torch.stack([time, time**2])
    return path @ basis.T @ torch.linalg.inv(basis @ basis.T) @ basis


def _less_grain(path: Tensor, basis: Tensor, grain: float) -> Tensor:
    """`path` (K, F) whole where what it does by `basis` (K, N) is well above `grain`, and next to nothing below."""
    power = (path.T @ basis).square().mean()
    return path * power**2 / (power**2 + grain**4)


def _with_rim(near: Tensor, alive: Tensor) -> tuple[Tensor, Tensor]:
    """Nearness and life (1, H, W), with the rim of what is near its own and not what it stands before."""
    most, where = functional.max_pool2d(near, RIM, stride=1, padding=RIM // 2, return_indices=True)
    owner = alive.flatten()[where.flatten()].view_as(alive)
    return most, torch.where(most - near > RIM_STEP, owner, alive)


def _smooth_step(value: Tensor, low: float, high: float) -> Tensor:
    share = ((value - low) / (high - low)).clamp(0, 1)
    return share * share * (3 - 2 * share)


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
    """Maps (C, h, w) at the working resolution, by `_cell_weights`."""
    h, w = fields.shape[-2:]
    height, width = weights.shape[-2:]
    rows, columns = _home(height, h, fields.device), _home(width, w, fields.device)
    result = fields.new_zeros(fields.shape[0], height, width)
    index = 0
    for dy in range(-REACH, REACH + 1):
        for dx in range(-REACH, REACH + 1):
            row, column = (rows + dy).clamp(0, h - 1), (columns + dx).clamp(0, w - 1)
            result += fields[..., row, :][..., column] * weights[index]
            index += 1
    return result


def _soften(fields: Tensor) -> Tensor:
    """Maps (C, H, W) blurred over a few working pixels: a boundary stretches a little rather than tears."""
    pad = SOFTNESS // 2
    return functional.avg_pool2d(functional.pad(fields, (pad, pad, pad, pad), mode="replicate"), SOFTNESS, stride=1)
