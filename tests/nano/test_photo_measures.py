"""The measures on real photographs read motions whose truth is known, and nothing from a frozen video."""

import cv2
import numpy as np
import pytest

from tests.nano.pictures import textured
from tools.train_nano import photo_measures as measures

SIDE, FRAMES = 192, 9


def warped(displacement):
    """Frames of a textured picture, moved by `displacement(share of time, x, y)` -> (dx, dy) in pixels."""
    picture = cv2.GaussianBlur((textured(SIDE) * 255).astype(np.uint8), (0, 0), 1.0)
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    frames = []
    for time in np.linspace(0, 1, FRAMES):
        dx, dy = displacement(time, x, y)
        source = np.float32(x - dx), np.float32(y - dy)
        frames.append(cv2.remap(picture, *source, cv2.INTER_LINEAR, None, cv2.BORDER_REFLECT))
    return np.stack(frames)


def frozen():
    return warped(lambda time, x, y: (0, 0))


def disc(x, y):
    """A round region in the middle with a soft edge."""
    return np.clip((60 - np.hypot(x - SIDE / 2, y - SIDE / 2)) / 20, 0, 1).astype(np.float32)


REGION = disc(*np.meshgrid(np.arange(SIDE), np.arange(SIDE))) > 0.02


def test_a_region_that_moves_alone_is_told_from_the_rest():
    moved = measures.region_motion(warped(lambda time, x, y: (4 * time * disc(x, y), 0)), REGION)
    assert moved.ratio > 15
    assert moved.outside_95 < 0.001


def test_a_region_that_moves_in_one_half_is_half_filled():
    def left_half(time, x, y):
        return 6 * time * disc(x, y) * (x < SIDE / 2), 0

    whole = measures.region_motion(warped(lambda time, x, y: (6 * time * disc(x, y), 0)), REGION)
    half = measures.region_motion(warped(left_half), REGION)
    assert whole.filled > 0.9
    assert 0.35 < half.filled < 0.7
    assert half.ratio > 10


def test_a_camera_over_a_moving_region_is_taken_away():
    def camera_and_region(time, x, y):
        grow = 0.05 * time
        return grow * (x - 90) + 3 * time + 5 * time * disc(x, y), grow * (y - 90)

    moved = measures.region_motion(warped(camera_and_region), REGION)
    assert moved.ratio > 8
    assert moved.outside_95 < 0.003
    assert 0.2 / SIDE < moved.inside < 1.0 / SIDE


def test_an_outside_that_swells_is_seen_whatever_moves_inside():
    def swelling(time, x, y):
        return 0 * x, 6 * time * np.exp(-(((x - 30) / 25) ** 2 + ((y - 30) / 25) ** 2))

    moved = measures.region_motion(warped(swelling), REGION)
    assert moved.outside_95 > 0.01
    assert moved.ratio < 1


def test_a_rim_that_is_dragged_along_is_seen_though_most_of_the_outside_stands():
    def dragging(time, x, y):
        return 4 * time * np.clip((76 - np.hypot(x - SIDE / 2, y - SIDE / 2)) / 8, 0, 1), 0

    clean = measures.region_motion(warped(lambda time, x, y: (4 * time * disc(x, y), 0)), REGION)
    dragged = measures.region_motion(warped(dragging), REGION)
    assert clean.rim_95 < 0.002
    assert dragged.rim_95 > 0.01


def test_a_frozen_video_moves_nowhere_and_bends_nothing():
    moved = measures.region_motion(frozen(), REGION)
    assert (moved.ratio, moved.outside_95, moved.rim_95, moved.filled) == (0, 0, 0, 0)
    assert measures.line_bend(frozen(), ((0.1, 0.3), (0.9, 0.3))) < 1e-3
    assert measures.uncovered(frozen()) == measures.Uncovered(0.0, 1.0)
    assert measures.light_evenness(frozen()) == 1
    assert measures.loop_difference(frozen()) == 0


def test_a_region_over_everything_leaves_nothing_to_compare():
    with pytest.raises(ValueError, match="nothing outside"):
        measures.region_motion(frozen(), np.ones((SIDE, SIDE)))


@pytest.mark.parametrize(("height", "least", "most"), [(0.0, 0.0, 0.6), (3.0, 2.6, 5.4)])
def test_a_line_bends_by_what_the_warp_bends_it(height, least, most):
    """A bow of `height` pixels of 192 leaves its best straight line by half its height, which is 1.33 times as many
    pixels of 512; a zoom and a turn bend nothing."""

    def bow(time, x, y):
        turned = 0.03 * time * (y - 90)
        return turned, height * time * np.sin(np.pi * x / SIDE) - 0.03 * time * (x - 90)

    assert least <= measures.line_bend(warped(bow), ((0.05, 0.5), (0.95, 0.5))) <= most


def test_a_loop_comes_back_and_a_drift_does_not():
    def swaying(time, x, y):
        return 4 * np.sin(2 * np.pi * time * (FRAMES - 1) / FRAMES), 0

    assert measures.loop_difference(warped(swaying)) <= 1.05
    assert measures.loop_difference(warped(lambda time, x, y: (8 * time, 0))) > 3


def test_light_that_jumps_is_uneven():
    grey = np.full((8, 16, 16, 3), 100, np.uint8)
    ramp = np.arange(8, dtype=np.uint8)[:, None, None, None]
    assert measures.light_evenness(grey + 4 * ramp) == 1
    jumps = np.array([0, 12, 14, 23, 24, 30, 36, 42], np.uint8)[:, None, None, None]
    assert measures.light_evenness(grey + jumps) == 12
    assert measures.light_evenness(grey + 4 * (ramp // 2)) == float("inf")


@pytest.mark.parametrize(("smeared", "least", "most"), [(False, 0.8, 1.0), (True, 0.0, 0.6)])
def test_what_a_moving_square_uncovers_is_compared_with_its_ground(smeared, least, most):
    rng = np.random.default_rng(1)
    fine = cv2.GaussianBlur(rng.integers(-90, 90, (SIDE, SIDE, 3)).astype(np.float32), (0, 0), 1.2)
    ground = np.clip(textured(SIDE) * 80 + 60 + fine, 0, 255)
    square = np.clip(np.roll(textured(SIDE), 37, axis=(0, 1))[:70, :70, ::-1] * 160 + 80, 0, 255)
    frames = []
    for shift in range(0, 24, 4):
        frame = ground.copy()
        if smeared:
            frame[60:130, 50 : 50 + shift] = frame[60:130, 50 : 50 + shift].mean((0, 1)) if shift else 0
        frame[60:130, 50 + shift : 120 + shift] = square
        frames.append(frame.astype(np.uint8))
    found = measures.uncovered(np.stack(frames))
    assert 0.005 < found.share < 0.12
    assert least <= found.contrast <= most
