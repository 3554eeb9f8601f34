"""The measures of the evaluation see what they are there to see."""

import numpy as np
import pytest

from tests.nano.pictures import textured
from tools.train_nano import measures
from tools.train_nano.clips import true_clip
from tools.train_nano.motions import Fields


def growing(size):
    """A square in the middle that grows by `size` of its width over 16 frames, before a ground that stands."""
    x = (np.arange(24, dtype=np.float32) + 0.5) / 24 - 0.5
    x, y = np.meshgrid(x, x)
    square = ((np.abs(x) < 0.21) & (np.abs(y) < 0.21)).astype(np.float32)
    share = (np.arange(16, dtype=np.float32) / 15 * size)[:, None, None]
    rest = np.zeros((2, 16, 24, 24), np.float32)
    return Fields(rest, np.stack([share * x, share * y]), square, square, rest[0]), square


def test_what_a_growing_thing_covers_is_not_taken_for_moving():
    fields, square = growing(0.35)
    assert measures.region_ratio(true_clip(textured(), fields), square) > 60


def test_a_picture_that_moves_as_a_whole_moves_as_much_outside():
    fields, square = growing(0.0)
    pan = np.zeros_like(fields.camera)
    pan[0] = (np.arange(16, dtype=np.float32) / 15 * 0.1)[:, None, None]
    moved = true_clip(textured(), Fields(pan, fields.living, square * 0, square * 0, fields.light))
    assert 0.8 < measures.region_ratio(moved, square) < 1.25


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
