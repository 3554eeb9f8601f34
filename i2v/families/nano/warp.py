"""Render motion fields over the full-size photograph: detail stays the photograph's own at any resolution.

Fields say where each cell of the first frame goes. The camera's are brought to a path that a camera can take (see
`camera`), which leaves straight lines straight; life moves only what lives (see `life`). Nearness and life are refined
along the photograph's edges at a working resolution; parallax is turned into "where does this pixel come from" by
forward splatting (see `splat`), and life is looked up backwards from there. What would show more than the photograph
has is not shown (see `view`). Nothing here depends on a tensor's values, so that the dry run can follow it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from i2v.families.nano import life
from i2v.families.nano.camera import at_time, eased, path_of, slow_move_in, stillness
from i2v.families.nano.fields import CLIP_SECONDS, positions, unpack
from i2v.families.nano.life import Moment
from i2v.families.nano.place import Place, Wish, smooth_step
from i2v.families.nano.splat import Pose, Scene, source
from i2v.families.nano.view import View, widest

WORKING_PIXELS = 288 * 288  # at which fields are refined and splatted, whatever the shape
REACH = 2  # cells: each working pixel listens to (2 * REACH + 1) ** 2 cells around it
COLOUR_SIGMA = 0.10
COLOUR_FLOOR = 0.02  # the voice of a cell of quite another colour
LIGHT_GRAIN = 0.04  # of light's logarithm, taken off where light is uneven
RIM_STEP = 0.1  # of nearness; less is no edge of a thing
ALIVE = (0.5, 0.85)  # of what was found: below the first nothing lives, above the second all of it moves
MOVES = (0.2, 0.8)  # how much it is asked for: below the first the camera stands, above the second it moves in full
SOFTNESS = 3  # working pixels over which a boundary of motion is spread
RIM = 5  # working pixels: what is near takes half of this of its surroundings along, as its edge is not of one pixel
LOOKED_AT = tuple(number / 8 for number in range(9))  # shares of the clip: what the view is fitted to
MOST_LENGTH = 1.5  # times CLIP_SECONDS: longer clips take a camera no farther


@dataclass(frozen=True)
class Refined:
    """What `render` needs, at the working resolution: the scene; the camera's path (2, K, 6) at the key times; what
    lives (1, H', W') and its own motion (2, H', W'); light still by cell (1, h, w); what was asked for; the part of the
    picture that is seen; how sure it is what lives ()."""

    scene: Scene
    path: Tensor
    alive: Tensor
    living: Tensor
    light: Tensor
    wish: Wish
    view: View
    sure: Tensor

    def pose(self, moment: Moment) -> Pose:
        """Where the camera is."""
        length = min(moment.seconds / CLIP_SECONDS, MOST_LENGTH)
        return Pose(length * at_time(self.path, moment.share, eased(moment.share), self.wish.held))


class MotionDecoder(nn.Module):
    """Latents and a photograph in, frames out. It has no weights; it is a module so that the engine can place it."""

    def refine(self, picture: Tensor, latents: Tensor, wish: Wish, place: Place, seconds: float) -> Refined:
        """What `render` needs of `picture` (1, 3, H, W) and `latents` (1, 7, K, h, w) for a clip of `seconds`."""
        height, width = picture.shape[-2:]
        scale = min(1.0, (WORKING_PIXELS / (height * width)) ** 0.5)
        size = (max(8, round(height * scale)), max(8, round(width * scale)))
        guide = functional.interpolate(picture, size=size, mode="area")
        motion = unpack(latents[0].float())
        near, aspect = motion.near.mean(1).clamp(0, 1), width / height
        found = _upsample(place.found[0], _cell_weights(guide, place.found.shape[-2:]))
        fine_near, found = _with_rim(_upsample(near, _cell_weights(guide, latents.shape[-2:])), found)
        found = place.sure * smooth_step(_soften(found), *ALIVE)
        brushed = functional.interpolate(place.brushed, size=size, mode="bilinear", align_corners=False)[0]
        alive = torch.lerp(found, _soften(brushed), place.painted[0])
        living = motion.living.mean(1)[None]
        living = functional.interpolate(living, size=size, mode="bicubic", align_corners=False)[0]
        path = path_of(motion.camera, positions(*latents.shape[-2:], aspect).to(near), near)
        path = path * smooth_step(wish.moves, *MOVES)
        lost = wish.placed * (1 - place.known.amax())
        path = path + lost * stillness(path) * slow_move_in(near)
        scene = Scene(_soften(fine_near), near.mean(), guide[0])
        return Refined(
            scene=scene,
            path=path,
            alive=alive,
            living=living,
            light=_steady_light(motion.light),
            wish=wish,
            sure=place.sure,
            view=_view(path, min(seconds / CLIP_SECONDS, MOST_LENGTH), wish.held, scene, aspect),
        )

    def render(self, picture: Tensor, refined: Refined, moment: Moment, size: tuple[int, int]) -> Tensor:
        """The frame of `moment` (3, H, W) float in 0..1, `size` its height and width; `picture` (1, 3, H', W')."""
        aspect = size[1] / size[0]
        seen = refined.view.seen(positions(*size, aspect).to(picture))
        place, behind, sure = source(refined.scene, refined.pose(moment), seen, aspect)
        here = life.sampled(torch.cat([refined.alive, refined.living]), place, "bilinear")
        alive, living = here[:1], here[1:]
        place = place - alive * life.displacement(moment, living, refined.wish.living, place)
        flow = life.flow(moment, refined.living, refined.alive, refined.wish.living)
        drawn = life.sampled(torch.cat([flow.first, flow.second]), place, "bilinear")
        first, first_moved = self._drawn(picture, refined, place, alive, drawn[:2])
        second, second_moved = self._drawn(picture, refined, place, alive, drawn[2:])
        mean = life.sampled(refined.scene.colour, place, "bilinear")
        frame = life.faded(first, second, flow.weight, mean, torch.maximum(first_moved, second_moved))
        frame = frame * sure + behind * (1 - sure)
        gain = life.light(moment, refined.light, refined.wish.living)
        gain = functional.interpolate(gain[None], size=size, mode="bicubic", align_corners=False)
        # Dusk is blue: red fades first.
        tint = gain.log().clamp(max=0) * gain.new_tensor([0.12, 0.0, -0.15]).view(1, 3, 1, 1)
        return (frame * gain * torch.exp(tint)).clamp(0, 1)[0]

    @staticmethod
    def _drawn(picture: Tensor, refined: Refined, place: Tensor, alive: Tensor, way: Tensor) -> tuple[Tensor, Tensor]:
        """One copy of a flow (3, H, W), drawn along `way` (2, H, W) only from what lives to what lives, and how much of
        that (1, H, W)."""
        moved = alive * life.sampled(refined.alive, place - alive * way, "bilinear")
        return life.sampled(picture[0], place - moved * way), moved


def _view(path: Tensor, length: float, held: Tensor, scene: Scene, aspect: float) -> View:
    """The part of the picture that no frame of a camera's `path` (2, 2, 6) leads out of."""
    poses = [Pose(length * at_time(path, share, share, held)) for share in LOOKED_AT]
    inverse, shift = (torch.stack(parts) for parts in zip(*(pose.plane() for pose in poses), strict=True))
    depth = (scene.near - scene.middle).abs().amax()
    half = path.new_tensor([aspect / 2, 0.5] if aspect >= 1 else [0.5, 0.5 / aspect])
    parallax = torch.stack([pose.coefficients[:, 3:] for pose in poses])
    reach = (parallax[..., 0].abs() + parallax[..., 1:].abs() @ half) * depth
    return widest(inverse, shift, reach, aspect)


def _steady_light(light: Tensor) -> Tensor:
    """The logarithm of the gain at the clip's end (1, h, w) from light (1, K, h, w), without the grain that denoising
    leaves: what differs from cell to cell smooth, and nothing where it was next to nothing."""
    light = light.mean(1)
    even = light.mean((-2, -1), keepdim=True)
    uneven = light - even
    for _ in range(2):
        uneven = functional.avg_pool2d(functional.pad(uneven, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    return even + functional.softshrink(uneven, LIGHT_GRAIN)


def _with_rim(near: Tensor, alive: Tensor) -> tuple[Tensor, Tensor]:
    """Nearness and life (1, H, W), with the rim of what is near its own and not what it stands before."""
    most, where = functional.max_pool2d(near, RIM, stride=1, padding=RIM // 2, return_indices=True)
    owner = alive.flatten()[where.flatten()].view_as(alive)
    return most, torch.where(most - near > RIM_STEP, owner, alive)


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
