"""The measures of the evaluation see what they are there to see."""

import numpy as np
import pytest

from tests.nano.pictures import textured
from tools.train_nano import measures
from tools.train_nano.clips import frozen_clip, waved_clip


def square(side=192):
    region = np.zeros((side, side), np.float32)
    region[56:136, 56:136] = 1
    return region


def test_what_moves_by_itself_is_told_from_what_stands():
    assert measures.region_ratio(waved_clip(textured(), square(), 16), square()) > 60


def test_a_picture_that_moves_as_a_whole_moves_as_much_outside():
    moved = waved_clip(textured(), np.ones((192, 192), np.float32), 16)
    assert 0.8 < measures.region_ratio(moved, square()) < 1.25


def test_the_warp_made_by_hand_moves_what_is_brushed_and_comes_back():
    made, still = waved_clip(textured(), square(), 16), frozen_clip(textured(), 16)
    outside = square() == 0
    assert np.array_equal(made[:, outside], still[:, outside])
    assert np.abs(made[2].astype(int) - still[2])[~outside].mean() > 2
    assert np.array_equal(made[0], still[0])
    assert np.array_equal(made[8], still[8])


def test_a_border_left_black_is_seen_in_the_worst_frame():
    clip = np.full((4, 50, 50, 3), measures.LIFTED, np.uint8)
    assert measures.dark_share(clip) == 0
    clip[2, :5] = 0
    assert measures.dark_share(clip) == 0.1


def test_field_error_is_split_at_edges_and_forgives_the_pace():
    exact = np.ones((2, 20, 20), np.float32)
    edge = np.zeros((20, 20), bool)
    edge[:, 8:12] = True
    assert max(measures.field_error(exact * 0.8, exact, edge)) < 1e-6
    wrong = exact.copy()
    wrong[:, edge] = 0
    at_edges, elsewhere = measures.field_error(wrong, exact, edge)
    assert at_edges == pytest.approx(1)
    assert elsewhere < 1e-6


def test_warping_error_sees_a_tear_and_not_a_pan():
    clip = np.stack([(np.roll(textured(), 2 * index, axis=1) * 255).astype(np.uint8) for index in range(8)])
    smooth = measures.warping_error(clip)
    torn = clip.copy()
    torn[1::2, 40:60] = torn[1::2, 42:62]
    assert measures.warping_error(torn) > 1.5 * smooth
