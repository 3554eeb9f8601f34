"""What latents mean: both ways the same, and sizes that every picture shape gets."""

import pytest
import torch

from i2v.families.nano import fields


def test_packing_and_unpacking_are_inverse():
    draws = torch.Generator().manual_seed(0)
    pairs = torch.rand(2, 2, 2, 5, 8, 8, generator=draws) * 0.8 - 0.4  # as far as LIVING_LIMIT lets anything go
    given = fields.Motion(pairs[0], pairs[1], *torch.rand(3, 2, 1, 5, 8, 8, generator=draws))
    latents = fields.pack(given)
    assert latents.shape == (2, fields.CHANNELS, 5, 8, 8)
    back = fields.unpack(latents)
    for name, value in vars(given).items():
        torch.testing.assert_close(getattr(back, name), value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(512, 512), (720, 1280), (1280, 720), (64, 4096), (2160, 3840)])
def test_every_shape_has_about_as_many_cells(height, width):
    h, w = fields.field_size(height, width)
    assert h % fields.CELL_MULTIPLE == 0
    assert w % fields.CELL_MULTIPLE == 0
    assert 0.7 * fields.CELLS <= h * w <= 1.3 * fields.CELLS


def test_a_square_picture_has_32_by_32_cells():
    assert fields.field_size(512, 512) == (32, 32)


def test_picture_and_brush_fill_the_input_beside_noise_and_time():
    picture = fields.picture_channels(torch.rand(2, 3, 100, 140), 20, 28, 1.4)
    assert picture.shape == (2, fields.PICTURE_CHANNELS, 20, 28)
    brush = fields.region_channels(
        torch.rand(2, 1, 50, 70), torch.ones(2, 1, 1, 1), torch.tensor([[0.6, 0.8]]).expand(2, -1), 20, 28
    )
    assert brush.shape == (2, fields.REGION_CHANNELS, 20, 28)
    keys = len(fields.KEY_TIMES)
    noise = torch.randn(2, fields.CHANNELS, keys, 20, 28)
    full = fields.unet_input(noise, torch.cat([picture, brush], 1), fields.time_channels())
    assert full.shape == (2, fields.UNET_IN_CHANNELS, keys, 20, 28)


def test_a_brush_says_where_whether_and_which_way():
    painted = torch.zeros(1, 1, 8, 8)
    painted[..., :4, :] = 1
    one, way = torch.ones(1, 1, 1, 1), torch.tensor([[0.6, -0.8]])
    share, known, *went = fields.region_channels(painted, one, way, 4, 4)[0]
    assert torch.equal(share, torch.tensor([1.0, 1, 0, 0])[:, None].expand(4, 4))
    assert (known == 1).all()
    torch.testing.assert_close(torch.stack(went), share * torch.tensor([0.6, -0.8])[:, None, None])
    assert not fields.region_channels(painted, one, 0 * way, 4, 4)[0, 2:].any()
    assert not fields.region_channels(painted, 0 * one, way, 4, 4).any()


def test_the_picture_looks_the_same_to_the_network_at_any_size():
    rows = torch.linspace(0, 1, 96)
    small = rows.expand(1, 3, 96, 96) * 0.5 + rows[:, None].expand(1, 3, 96, 96) * 0.5
    large = torch.nn.functional.interpolate(small, scale_factor=4, mode="bilinear")
    seen = [fields.picture_channels(p, 24, 24, 1.0) for p in (small, large)]
    assert (seen[0] - seen[1]).abs().max() < 0.02


def test_positions_are_measured_in_short_sides_from_the_middle():
    place = fields.positions(10, 20, 2.0)
    assert place[0].min() == pytest.approx(-0.95)
    assert place[1].max() == pytest.approx(0.45)
