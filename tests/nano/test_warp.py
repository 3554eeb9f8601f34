"""Decoding: the photograph goes where the fields say, as sharp as it was, and never black."""

import pytest
import torch
from torch.nn import functional

from i2v.families.nano.fields import pack, positions
from i2v.families.nano.warp import MotionDecoder


def photograph(height=160, width=160, seed=0):
    """Smooth random colours, well inside the range."""
    coarse = torch.rand(1, 3, height // 10, width // 10, generator=torch.Generator().manual_seed(seed))
    return functional.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0.1, 0.9)


def latents(displacement, near=0.5, light=0.0):
    """displacement (2, F, h, w); near a number or (1, F, h, w)."""
    frames = displacement.shape[1:]
    near = torch.as_tensor(near, dtype=torch.float32).expand(1, *frames)
    return pack(displacement, near, torch.full((1, *frames), float(light)))[None]


def steady(shift_x, shift_y, frames=8, cells=24):
    """A constant speed, reaching the shift in the last frame."""
    share = torch.arange(frames) / (frames - 1)
    move = torch.stack([share * shift_x, share * shift_y])
    return move[:, :, None, None].expand(2, frames, cells, cells)


def test_the_first_frame_is_the_photograph_itself():
    picture = photograph()
    frames = MotionDecoder()(picture, latents(torch.randn(2, 8, 24, 24) * 0.02))
    assert torch.equal(frames[0], picture[0])


def test_standing_fields_leave_every_frame_as_it_is():
    picture = photograph()
    for frame in MotionDecoder()(picture, latents(torch.zeros(2, 8, 24, 24))):
        assert (frame - picture[0]).abs().max() < 1e-4


@pytest.mark.parametrize(("x", "y"), [(0.1, 0.0), (-0.1, 0.0), (0.0, 0.1), (0.0, -0.1)])
def test_a_shift_moves_the_photograph_that_way_and_keeps_it_sharp(x, y):
    picture = photograph()
    last = MotionDecoder()(picture, latents(steady(x, y)))[-1]
    moved = torch.roll(picture[0], (round(y * 160), round(x * 160)), dims=(1, 2))
    inner = (slice(None), slice(30, -30), slice(30, -30))
    assert (last[inner] - moved[inner]).abs().mean() < 0.004


@pytest.mark.parametrize("grow", [-0.3, 0.3])
def test_a_zoom_is_exact_and_its_borders_are_mirrored_not_black(grow):
    picture = photograph()
    place = positions(24, 24, 1.0)
    share = torch.arange(8).view(1, -1, 1, 1) / 7
    last = MotionDecoder()(picture, latents(place[:, None] * share * grow))[-1]
    assert last.min() > 0.05
    coordinates = positions(160, 160, 1.0) / (1 + grow) * 2
    true = functional.grid_sample(
        picture, coordinates.permute(1, 2, 0)[None], mode="bicubic", padding_mode="reflection", align_corners=False
    )[0]
    assert (last - true).abs().mean() < 0.006


def test_near_covers_far_where_they_meet():
    """A near red square moves right over a far blue ground; where they meet there is red, and blue fills behind it."""
    picture = torch.zeros(1, 3, 192, 192)
    picture[:, 2] = 0.8
    picture[:, :, 64:128, 64:128] = torch.tensor([0.8, 0.0, 0.0]).view(1, 3, 1, 1)
    square = torch.zeros(24, 24)
    square[8:16, 8:16] = 1
    moving = steady(0.125, 0.0) * square
    last = MotionDecoder()(picture, latents(moving, near=square))[-1]
    assert last[0, 96, 140] > 0.7  # the square has moved 24 pixels to the right
    assert last[0, 96, 72] < 0.2  # where it stood is ground again
    assert last[2, 96, 72] > 0.6


def test_light_darkens_towards_blue():
    picture = torch.full((1, 3, 96, 96), 0.5)
    field = latents(torch.zeros(2, 8, 24, 24))
    field[:, 3] = torch.linspace(0, -2, 8).view(1, 8, 1, 1)
    last = MotionDecoder()(picture, field)[-1]
    assert last.mean() < 0.25
    assert last[2].mean() > last[0].mean()


def test_pictures_of_any_shape_and_a_single_frame():
    assert len(MotionDecoder()(photograph(160, 320), latents(torch.zeros(2, 1, 16, 32)))) == 1
    frames = MotionDecoder()(photograph(320, 160), latents(steady(0.1, 0.0, frames=3)[..., :16]))
    assert frames[-1].shape == (3, 320, 160)
