"""The teacher's masks: made from probabilities of cells, and judged against drawn ones."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from tools.train_nano import labels
from tools.train_nano.teacher import BY_EYE, CLASSES, learns, taught, without_regions
from tools.train_nano.teacher_masks import KINDS, agreement, hard, refined, shares_of, summary

SKY, WATER = list(KINDS).index("sky"), list(KINDS).index("water")


def half_and_half(height: int = 48, width: int = 64) -> np.ndarray:
    """A copy without regions: light above the middle, dark below."""
    copy = np.zeros((height, width, 7), np.uint8)
    copy[: height // 2, :, :3] = 220
    copy[height // 2 :, :, :3] = 40
    return copy


def sky_over_water(h: int = 6, w: int = 8) -> np.ndarray:
    probabilities = np.full((CLASSES, h, w), 0.04, np.float32)
    probabilities[SKY, : h // 2] = probabilities[WATER, h // 2 :] = 0.8
    return probabilities


def test_shares_of_a_cell_add_up_to_one_even_where_masks_overlap() -> None:
    masks = np.ones((16, 16, len(KINDS)), np.float32)
    masks[:, 8:] = 0
    shares = shares_of(masks, (2, 2))
    assert np.allclose(shares.sum(0), 1)
    assert np.allclose(shares[-1], [[0, 1], [0, 1]])


def test_regions_come_from_the_probabilities_and_end_at_the_edge_of_the_colours() -> None:
    copy = half_and_half()
    found = taught(copy, sky_over_water(), flowers=False)
    assert np.array_equal(found[..., :3], copy[..., :3])
    assert found[:23, :, 3].min() > 230
    assert found[25:, :, 3].max() < 25
    assert found[25:, :, 6].min() > 230
    assert found[:23, :, 6].max() < 25
    assert not found[..., 4:6].any(), "what is only a speck is no region"


def test_a_flower_is_the_thing_of_a_picture_only_where_scenes_take_it_for_one() -> None:
    probabilities = np.full((CLASSES, 6, 8), 0.04, np.float32)
    probabilities[list(KINDS).index("flower")] = 0.8
    assert taught(half_and_half(), probabilities, flowers=True)[..., 5].min() > 200
    assert not taught(half_and_half(), probabilities, flowers=False)[..., 5].any()


def test_hard_keeps_doubt_and_sharpens_the_rest() -> None:
    sure, torn = hard(np.float32([[0.7, 0.3], [0.5, 0.5]]))
    assert sure[0] > 0.95
    assert torn[0] == pytest.approx(0.5)


def test_refined_probabilities_add_up_to_one() -> None:
    assert np.allclose(refined(sky_over_water(), half_and_half()[..., :3]).sum(-1), 1, atol=1e-5)


def test_agreement_of_a_map_with_what_was_drawn() -> None:
    drawn = np.zeros((10, 10), np.float32)
    drawn[:5] = 1
    found = np.zeros_like(drawn)
    found[:4] = 1
    found[9] = 1
    row = agreement(found, drawn)
    assert (row.share, row.precision, row.recall) == pytest.approx((0.5, 0.8, 0.8))
    assert row.ratio == pytest.approx(4)
    total = summary([row, agreement(drawn, drawn), agreement(found * 0, drawn * 0)])
    assert total["photographs"] == 2
    assert total["found"] == 0.5
    assert total["iou"] == pytest.approx((4 / 6 + 1) / 2, abs=1e-3)
    assert summary([]) == {"photographs": 0}


def test_only_training_photographs_without_drawn_regions_are_taught() -> None:
    entry = {"kind": "photo", "drawn": False, "held_out": False}
    assert learns(entry)
    assert not any(learns({**entry, **other}) for other in ({"kind": "land"}, {"drawn": True}, {"held_out": True}))


def test_a_still_picture_loses_its_regions() -> None:
    copy = half_and_half()
    copy[..., 5] = 255
    assert not without_regions(copy)[..., 3:].any()


def test_what_was_seen_by_eye_names_each_photograph_once_and_none_with_drawn_regions() -> None:
    listed = yaml.safe_load(BY_EYE.read_text(encoding="utf-8"))
    names = [*listed["still"], *listed["left_out"]]
    assert len(names) == len(set(names)) > 0
    assert not set(names) & {photograph.file for photograph in labels.load()}


def test_an_edge_of_the_picture_makes_the_edge_of_a_region_steeper() -> None:
    edged, plain = half_and_half()[..., :3], np.full((48, 64, 3), 128, np.uint8)
    steps = [np.abs(np.diff(refined(sky_over_water(), colour)[:, 32, SKY])).max() for colour in (edged, plain)]
    assert steps[0] > 1.5 * steps[1]
