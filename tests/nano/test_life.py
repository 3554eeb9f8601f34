"""The clocks of what lives, and the part of a picture that is seen: no photograph and no network."""

import numpy as np
import pytest
import torch

from i2v.families.nano import camera, life
from i2v.families.nano.life import Moment
from i2v.families.nano.view import widest
from tools.train_nano.clips import in_view

SQUARE = torch.eye(2)[None].expand(3, 2, 2)
STILL = torch.zeros(3, 2)


@pytest.mark.parametrize("seconds", [1.3, 4.0, 30.0])
def test_what_is_periodic_has_whole_turns_in_a_clip(seconds):
    for rate in (life.FLOWS, life.CLOUD_FLOWS, *life.SWAYS, life.BREATHS, *life.FLICKERS):
        turns = Moment(1.0, seconds).turns(rate)
        assert turns == round(turns) >= 1
        assert abs(turns - rate * seconds) <= max(0.5, 1 - rate * seconds)
        assert Moment(1.0, seconds).swing(rate, 1.0) == pytest.approx(0, abs=1e-9)


def test_a_copy_of_a_flow_begins_anew_only_while_it_is_not_seen():
    """Its way is broken off where it counts nothing, and both copies count 1 together."""
    before = None
    for index in range(401):
        copies = life.phases(Moment(index / 400, 4.0), life.FLOWS)
        assert sum(count for _, count in copies) == pytest.approx(1)
        for number, (along, count) in enumerate(copies):
            if before is not None and abs(along - before[number][0]) > 0.5:
                assert count < 0.02
        before = copies


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_at_the_beginning_and_the_end_a_flow_shows_the_picture_as_it_stands(share):
    first, second = life.phases(Moment(share, 4.0), life.FLOWS)
    assert first[1] == pytest.approx(0, abs=1e-9)
    assert second == pytest.approx((0.0, 1.0))


def test_fading_keeps_contrast():
    """Two textures that have nothing in common, half and half: a plain mean would lose three tenths of it."""
    one, other = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    both = life.faded(one, other, torch.tensor(0.5), torch.zeros(1), torch.ones(1))
    assert both.std() == pytest.approx(1, abs=0.03)
    assert torch.equal(life.faded(one, one, torch.tensor(0.5), torch.zeros(1), torch.zeros(1)), one)


def test_a_cameras_way_is_whole_at_the_end_and_slower_at_both():
    ways = [camera.eased(index / 20) for index in range(21)]
    steps = np.diff(ways)
    assert (ways[0], ways[-1]) == (0, pytest.approx(1))
    assert steps.min() > 0
    assert max(steps[0], steps[-1]) < 0.6 * steps.max()
    assert steps.max() < 1.6 / 20


def test_a_hand_is_back_where_it_was():
    assert camera.hand(0.0) == pytest.approx((0, 0, 0))
    assert camera.hand(1.0) == pytest.approx((0, 0, 0), abs=1e-9)
    assert 0.3 < max(abs(value) for index in range(50) for value in camera.hand(index / 50)) <= 2


def test_a_camera_that_stands_shows_the_whole_picture():
    view = widest(SQUARE, STILL, STILL, 1.5)
    assert (float(view.size), view.middle.tolist()) == (1.0, [0.0, 0.0])


def test_a_pan_begins_beside_the_middle_and_ends_as_far_on_its_other_side():
    """The picture goes a fifth of its width to the left: what is seen is 5/6 of it, and uses both borders."""
    shift = torch.tensor([[0.0, 0.0], [-0.1, 0.0], [-0.2, 0.0]])
    view = widest(SQUARE, shift, STILL, 1.0)
    assert float(view.size) == pytest.approx(0.8)
    edges = [(float(view.middle[0]) - x + sign * 0.4) for x in (0.0, -0.2) for sign in (-1, 1)]
    assert min(edges) == pytest.approx(-0.5)
    assert max(edges) == pytest.approx(0.5)


def test_a_zoom_out_ends_with_the_whole_picture():
    grow = torch.tensor([1.0, 0.9, 0.8])
    view = widest(torch.eye(2) / grow[:, None, None], STILL, STILL, 1.0)
    assert float(view.size) == pytest.approx(0.8)


@pytest.mark.parametrize("aspect", [0.6, 1.0, 1.8])
def test_no_corner_of_any_frame_leads_out_of_the_picture(aspect):
    generator = torch.Generator().manual_seed(3)
    half = torch.tensor([aspect / 2, 0.5] if aspect >= 1 else [0.5, 0.5 / aspect])
    corners = torch.tensor([[x, y] for x in (-1.0, 1) for y in (-1.0, 1)]) * half
    for _ in range(40):
        inverse = torch.eye(2) + 0.1 * torch.randn(3, 2, 2, generator=generator)
        shift = 0.05 * torch.randn(3, 2, generator=generator)
        reach = 0.02 * torch.rand(3, 2, generator=generator)
        view = widest(inverse, shift, reach, aspect)
        places = float(view.size) * corners + view.middle
        shown = torch.einsum("kde,kce->kcd", inverse, places[None] - shift[:, None])
        assert ((shown.abs() + reach[:, None]) <= half + 1e-5).all()


def test_a_mask_is_cut_as_the_picture_is():
    mask = np.zeros((40, 40), np.float32)
    mask[:20] = 1
    view = widest(SQUARE, torch.tensor([[0.0, 0.0], [0.0, -0.1], [0.0, -0.2]]), STILL, 1.0)
    top = float(view.middle[1]) - 0.4
    assert top == pytest.approx(-0.5)  # the picture goes up, so that its upper border is seen first
    assert in_view(mask, view).mean() == pytest.approx((0.0 - top) / 0.8, abs=0.02)


def test_no_wish_for_life_moves_nothing():
    place = torch.zeros(2, 4, 4)
    none = torch.zeros(9)
    none[-1] = 1
    moved = life.displacement(Moment(0.3, 4.0), torch.ones(2, 4, 4), none, place)
    assert not moved.any()
    flow = life.flow(Moment(0.3, 4.0), torch.ones(2, 4, 4), torch.ones(1, 4, 4), none)
    assert not flow.first.any()
    assert not flow.second.any()
    assert torch.equal(life.light(Moment(0.3, 4.0), torch.ones(1, 4, 4), none), torch.ones(1, 4, 4))
