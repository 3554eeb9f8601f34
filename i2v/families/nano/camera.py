"""The camera's path: brought to a motion that a camera can make, without grain, and drawn at any frame.

What a camera does to a scene at rest is, to first order, a turn and a scale of the plane plus a shift and a growth in
proportion to inverse depth (Longuet-Higgins and Prazdny, 1980): seven numbers at each key time. Between them the path
is the parabola through rest at the clip's beginning; a hand-held camera swings, and is back at rest at the end.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from i2v.families.nano.fields import KEY_TIMES

CAMERA_GRAIN = 0.0035  # short sides; a camera that moves less than this over a clip stands
NEARNESS_RIDGE = 5e-4  # where nearness hardly varies it explains no motion
MOVE_IN = (0.03, 0.13)  # how much what is far and what is near grows in a clip, where nothing else moves
STANDS = 0.02
EASE = 0.5  # of its mean pace a camera has at the beginning and the end
# Of a hand: whole swings in a clip with their shares, for the shift in x, in y, and the turn; and the phase of each.
SWINGS = ((1, 1.0), (2, 0.4))
HAND_PHASES = (0.4, 1.9, 3.3)


def path_of(displacement: Tensor, cells: Tensor, near: Tensor) -> Tensor:
    """The camera motion nearest to `displacement` (2, K, h, w) over `near` (1, h, w) at `cells` (2, h, w): (2, K, 6),
    three coefficients of `splat.plane_basis`, and three of it times nearness less its mean."""
    basis = _basis(cells, (near - near.mean())[0]).flatten(1, 2)
    ridge = torch.tensor([0.0, 0, 0, 0, 1, 1, 1], device=near.device) * (NEARNESS_RIDGE * basis.shape[1])
    solve = torch.linalg.inv(basis @ basis.T + torch.diag(ridge)) @ basis
    path = solve @ displacement.transpose(0, 1).flatten(1).T
    x, y, grow, turn, near_x, near_y, near_grow = _less_grain(path, basis, CAMERA_GRAIN)
    none = torch.zeros_like(x)
    return torch.stack(
        [
            torch.stack([x, grow, -turn, near_x, near_grow, none], dim=-1),
            torch.stack([y, turn, grow, near_y, none, near_grow], dim=-1),
        ]
    )


def slow_move_in(near: Tensor) -> Tensor:
    """The path (2, K, 6) of a camera that slowly goes forward over `near` (1, h, w)."""
    grow, parallax = MOVE_IN[0] + (MOVE_IN[1] - MOVE_IN[0]) * near.mean(), near.new_tensor(MOVE_IN[1] - MOVE_IN[0])
    none = torch.zeros_like(grow)
    end = torch.stack(
        [
            torch.stack([none, grow, none, none, parallax, none]),
            torch.stack([none, none, grow, none, none, parallax]),
        ]
    )
    return torch.stack([time * end for time in KEY_TIMES], dim=1)


def stillness(path: Tensor) -> Tensor:
    """() 1 for a camera that stands and 0 for one that moves by its `path` (2, K, 6)."""
    return torch.exp(-path.square().sum() / STANDS**2)


def eased(share: float) -> float:
    """The part of its way that a camera has gone after this `share` of the clip: slower at both ends."""
    return share - (1 - EASE) * math.sin(2 * math.pi * share) / (2 * math.pi)


def shares(at: float) -> tuple[float, float]:
    """How much the path's middle and its end count `at` a share of the way."""
    return 4 * at * (1 - at), at * (2 * at - 1)


def hand(at: float) -> tuple[float, float, float]:
    """Where a hand that holds a camera is, `at` a share of the clip: in x, in y and turned, at most about 1."""
    return tuple(
        sum(share * (math.sin(2 * math.pi * turns * at + phase) - math.sin(phase)) / 2 for turns, share in SWINGS)
        for phase in HAND_PHASES
    )


def at_time(path: Tensor, at: float, way: float, held: Tensor) -> Tensor:
    """Of a `path` (2, 2, 6) the coefficients (2, 6) `at` a share of the clip, when the camera has gone the share `way`
    of its way; `held` () is how much of it is a hand's, whose sway is as far as the end of the path."""
    middle, end = shares(way)
    moved = middle * path[:, 0] + end * path[:, 1]
    x, y, turn = hand(at)
    swings = path.new_tensor([[x, 0, turn, 0, 0, 0], [y, turn, 0, 0, 0, 0]])
    return (1 - held) * moved + held * swings * path[:, 1]


def _basis(cells: Tensor, depth: Tensor) -> Tensor:
    """(7, 2, N): the displacement of every cell for one unit of each of a camera's seven numbers."""
    x, y = cells.flatten(1)
    depth = depth.flatten()
    one, none = torch.ones_like(x), torch.zeros_like(x)
    pairs = [(one, none), (none, one), (x, y), (-y, x), (depth, none), (none, depth), (depth * x, depth * y)]
    return torch.stack([torch.stack(pair) for pair in pairs])


def _less_grain(path: Tensor, basis: Tensor, grain: float) -> Tensor:
    """`path` (7, K) whole where what it does by `basis` (7, 2N) is well above `grain`, and next to nothing below."""
    power = (path.T @ basis).square().mean()
    return path * power**2 / (power**2 + grain**4)
