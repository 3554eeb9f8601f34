"""Decoding: the photograph goes where the fields say, as sharp as it was, and never black."""

import pytest
import torch
from torch.nn import functional

from i2v.families.nano.fields import CHANNELS, Motion, pack, positions
from i2v.families.nano.warp import MotionDecoder


def photograph(height=160, width=160, seed=0):
    """Smooth random colours, well inside the range."""
    coarse = torch.rand(1, 3, height // 10, width // 10, generator=torch.Generator().manual_seed(seed))
    return functional.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0.1, 0.9)


def latents(camera=None, living=None, near=0.5, alive=0.0, light=0.0):
    """camera and living (2, F, h, w), one of them given; near, alive and light numbers or (F, h, w)."""
    given = camera if camera is not None else living
    parts = [torch.zeros_like(given) if part is None else part for part in (camera, living)]
    maps = [torch.as_tensor(m, dtype=torch.float32).expand(1, *given.shape[1:]) for m in (near, alive, light)]
    return pack(Motion(*parts, *maps))[None]


def steady(shift_x, shift_y, frames=8, cells=24):
    """A constant speed, reaching the shift in the last frame."""
    share = torch.arange(frames) / (frames - 1)
    move = torch.stack([share * shift_x, share * shift_y])
    return move[:, :, None, None].expand(2, frames, cells, cells)


def last_frame(picture, clean):
    """(3, H, W): as the decoder renders it, and no frame before it."""
    decoder = MotionDecoder()
    return decoder.render(picture, decoder.refine(picture, clean), clean.shape[2] - 1)


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
    last = last_frame(picture, latents(steady(x, y)))
    moved = torch.roll(picture[0], (round(y * 160), round(x * 160)), dims=(1, 2))
    inner = (slice(None), slice(30, -30), slice(30, -30))
    assert (last[inner] - moved[inner]).abs().mean() < 0.004


@pytest.mark.parametrize("grow", [-0.3, 0.3])
def test_a_zoom_is_exact_and_its_borders_are_mirrored_not_black(grow):
    picture = photograph()
    place = positions(24, 24, 1.0)
    share = torch.arange(8).view(1, -1, 1, 1) / 7
    last = last_frame(picture, latents(place[:, None] * share * grow))
    assert last.min() > 0.05
    coordinates = positions(160, 160, 1.0) / (1 + grow) * 2
    true = functional.grid_sample(
        picture, coordinates.permute(1, 2, 0)[None], mode="bicubic", padding_mode="reflection", align_corners=False
    )[0]
    assert (last - true).abs().mean() < 0.006


def near_square():
    """A red square on a blue ground (192 pixels a side), and its cells."""
    picture = torch.zeros(1, 3, 192, 192)
    picture[:, 2] = 0.8
    picture[:, :, 64:128, 64:128] = torch.tensor([0.8, 0.0, 0.0]).view(1, 3, 1, 1)
    square = torch.zeros(24, 24)
    square[8:16, 8:16] = 1
    return picture, square


@pytest.fixture(scope="module", params=["camera", "living"])
def slid(request):
    """The last frame of the near square 24 pixels to the right, whether the camera slides or the square walks."""
    picture, square = near_square()
    alive = {"alive": square} if request.param == "living" else {}
    moving = steady(0.125, 0.0) * (1 if alive else square)
    return last_frame(picture, latents(**{request.param: moving}, near=square, **alive))


def test_a_torn_edge_is_sharp_and_its_gap_takes_the_colour_behind(slid):
    """Nearly every pixel is the square's red or the ground's blue: nothing is smeared between them."""
    red, blue = (slid[0] > 0.7) & (slid[2] < 0.15), (slid[0] < 0.1) & (slid[2] > 0.65)
    assert (red | blue).float().mean() > 0.994
    assert 0.95 < red.sum() / 64**2 < 1.15


def test_near_covers_far_where_they_meet(slid):
    """Where the square comes to there is red, and blue fills in behind it."""
    assert slid[0, 96, 140] > 0.7
    assert slid[0, 96, 72] < 0.2  # where it stood is ground again
    assert slid[2, 96, 72] > 0.6


def test_life_keeps_its_pace_in_a_growing_picture():
    """The square walks a tenth of the side while the picture grows by half: it is half as large again, a tenth away."""
    picture, square = near_square()
    grow = positions(24, 24, 1.0)[:, None] * (torch.arange(8).view(1, -1, 1, 1) / 7 * 0.5)
    last = last_frame(picture, latents(grow, steady(0.1, 0.0), near=square, alive=square))
    columns = torch.nonzero((last[0] > 0.7)[96]).flatten()
    assert columns.float().mean() == pytest.approx(96 + 0.1 * 192, abs=2.5)
    assert len(columns) == pytest.approx(96, abs=6)


def test_grain_in_time_is_smoothed():
    noise = torch.randn(2, 16, 24, 24, generator=torch.Generator().manual_seed(3)) * 0.01
    made = MotionDecoder().refine(photograph(), latents(living=noise, alive=1.0)).living
    jerk, given = (part[:, 2:] - 2 * part[:, 1:-1] + part[:, :-2] for part in (made, noise))
    assert jerk.square().mean() < 0.15 * given.square().mean()


def test_only_what_is_alive_moves_by_itself():
    picture, square = near_square()
    picture = picture * 0.5 + photograph(192, 192) * 0.5
    last = last_frame(picture, latents(living=steady(0.03, 0.02), alive=square))
    assert (last - picture[0])[:, 72:120, 72:120].abs().mean() > 0.005
    outside = torch.ones(192, 192, dtype=torch.bool)
    outside[44:148, 44:148] = False
    assert (last - picture[0])[:, outside].abs().max() < 1e-3


def test_camera_fields_lose_their_grain():
    """Noise a quarter of the pan's size over every cell moves nothing by more than a hundredth of a side."""
    picture = photograph()
    noise = torch.randn(2, 8, 24, 24, generator=torch.Generator().manual_seed(1)) * 0.03
    clean, noisy = (
        MotionDecoder().refine(picture, latents(steady(0.12, 0.0) + grain)) for grain in (torch.zeros(1), noise)
    )
    error = clean.displacement(7, 1.0) - noisy.displacement(7, 1.0)
    assert error.abs().max() < 0.01


def test_a_camera_that_stands_stands_in_spite_of_grain():
    noise = torch.randn(2, 8, 24, 24, generator=torch.Generator().manual_seed(2)) * 0.02
    refined = MotionDecoder().refine(photograph(), latents(noise))
    assert refined.displacement(7, 1.0).abs().max() < 0.0015


def test_a_picture_grown_to_three_times_its_size_has_no_holes():
    picture = photograph()
    grow = positions(24, 24, 1.0)[:, None] * (torch.arange(8).view(1, -1, 1, 1) / 7 * 2)
    last = last_frame(picture, latents(grow))
    true = functional.grid_sample(
        picture, positions(160, 160, 1.0).permute(1, 2, 0)[None] / 3 * 2, mode="bicubic", align_corners=False
    )[0]
    assert (last - true)[:, 4:-4, 4:-4].abs().max() < 0.03


def test_a_thing_that_opens_wide_has_no_pinholes():
    """A near red disc grows to nearly three times its size by its own life: none of the blue behind shows in it."""
    y, x = positions(192, 192, 1.0).flip(0)
    disc = ((x**2 + y**2).sqrt() < 0.12).float()
    picture = torch.stack([disc * 0.8, disc * 0.05, 0.7 - 0.65 * disc])[None]
    cells = functional.avg_pool2d(disc[None], 8)[0]
    grow = positions(24, 24, 1.0)[:, None] * (torch.arange(8).view(1, -1, 1, 1) / 7 * 1.8)
    last = last_frame(picture, latents(living=grow, near=0.2 + 0.6 * cells, alive=cells))
    inside = (x**2 + y**2).sqrt() < 0.22
    assert (last[0][inside] > 0.6).all()


def test_a_camera_over_depth_is_followed_exactly():
    """Growth in proportion to nearness, as a dolly gives, comes through the fit whole."""
    near = torch.linspace(0, 1, 24).view(-1, 1).expand(24, 24)
    share = torch.arange(8).view(1, -1, 1, 1) / 7
    moving = positions(24, 24, 1.0)[:, None] * share * (0.05 + 0.2 * near)
    refined = MotionDecoder().refine(photograph(), latents(moving, near=near))
    made = functional.interpolate(refined.displacement(7, 1.0)[None], size=(24, 24), mode="area")[0]
    assert (made - moving[:, 7])[:, 2:-2, 2:-2].abs().max() < 0.05 * moving.abs().max()


def test_light_darkens_towards_blue():
    picture = torch.full((1, 3, 96, 96), 0.5)
    dusk = torch.linspace(0, -1.2, 8).view(8, 1, 1).expand(8, 24, 24)
    last = last_frame(picture, latents(torch.zeros(2, 8, 24, 24), light=dusk))
    assert last.mean() < 0.25
    assert last[2].mean() > last[0].mean()


def test_flicker_keeps_its_pace():
    """Light that comes and goes every other frame is not smoothed away."""
    picture = torch.full((1, 3, 96, 96), 0.5)
    pulse = (torch.arange(8) % 2 * 0.3).view(8, 1, 1).expand(8, 24, 24)
    level = [float(frame.mean()) for frame in MotionDecoder()(picture, latents(torch.zeros(2, 8, 24, 24), light=pulse))]
    assert min(level[1::2]) > 1.3 * max(level[2::2])


def test_every_shape_is_decoded_at_the_same_resolution():
    """So that a larger picture never takes less memory, whatever its shape."""
    decoder, latents = MotionDecoder(), torch.zeros(1, CHANNELS, 3, 24, 24)
    for height, width in ((512, 512), (768, 512), (400, 1200), (1024, 1024)):
        working = decoder.refine(torch.zeros(1, 3, height, width), latents).near
        assert working.numel() == pytest.approx(288 * 288, rel=0.01)


def test_pictures_of_any_shape_and_a_single_frame():
    assert len(MotionDecoder()(photograph(160, 320), latents(torch.zeros(2, 1, 16, 32)))) == 1
    frames = MotionDecoder()(photograph(320, 160), latents(steady(0.1, 0.0, frames=3)[..., :16]))
    assert frames[-1].shape == (3, 320, 160)
