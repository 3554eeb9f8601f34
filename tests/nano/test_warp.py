"""Decoding exact fields: the photograph goes where they say, and only there, as sharp as it was, and back again."""

import numpy as np
import pytest
import torch

from i2v.families.nano.fields import CHANNELS, KEY_TIMES, positions
from i2v.families.nano.life import LIVING, PLACED
from i2v.families.nano.place import place_of
from i2v.families.nano.reader import CAMERA
from i2v.families.nano.warp import MotionDecoder
from tests.nano import pictures
from tools.train_nano import measures, photo_measures
from tools.train_nano.clips import Settings, exact_take, wish_for
from tools.train_nano.motions import Brush, Fields, View, camera, fields
from tools.train_nano.prompts import Asked

SIDE, CELLS = 96, 16
QUICK = Settings(frames=8, fps=2)
MARK = np.float32([1.0, 0.0, 1.0])
MOVING = tuple(motion for motion in CAMERA if motion != "still")


def view(near=0.5):
    """A scene at the resolution of the fields, as near as `near`, a number or (h, w); nothing is known to live."""
    x, y = positions(CELLS, CELLS, 1.0).numpy()
    none = np.zeros((CELLS, CELLS), np.float32)
    regions = dict.fromkeys(("sky", "plants", "water"), none)
    return View(x, y, none + np.float32(near), regions, [], none)


def textured(side=SIDE):
    """A picture with detail everywhere, of levels that a file can hold."""
    return as_bytes(pictures.textured(side)).astype(np.float32) / 255


def box(side):
    """A brushed square in the middle, (side, side)."""
    region = np.zeros((side, side), np.float32)
    region[side // 4 : 3 * side // 4, side // 4 : 3 * side // 4] = 1
    return region


def rng():
    return np.random.default_rng(1)


def lived(motion, settings=QUICK, side=SIDE, strength=1.0):
    """What lives in the brushed square of a textured picture, with the camera still."""
    asked = Asked("", living=motion, living_strength=strength)
    truth = fields(view(), asked, rng(), Brush(box(CELLS)))
    return exact_take(textured(side), truth, wish_for(motion), settings, box(side))


def filmed(motion, picture, near=0.5, grain=0.0, settings=QUICK):
    """A camera's motion over `picture`, nothing alive; `grain` as denoising leaves it, in short sides."""
    moved = camera(view(near), motion, 1.0, rng())
    moved = (moved + grain * rng().standard_normal(moved.shape)).astype(np.float32)
    scene = view(near)
    none = np.zeros_like(scene.near)
    truth = Fields(moved, np.zeros((2, *none.shape), np.float32), scene.near, none, none)
    return exact_take(picture, truth, wish_for(held=motion == "handheld"), settings)


def as_bytes(picture):
    return np.rint(picture * 255).astype(np.uint8)


# --- what does not move ---


@pytest.mark.parametrize("motion", LIVING)
def test_the_first_frame_is_the_photograph_itself(motion):
    assert np.array_equal(lived(motion).frame(0), as_bytes(textured(SIDE)))


@pytest.mark.parametrize("motion", [motion for motion in LIVING if motion not in ("flicker", "night", "day")])
def test_outside_of_a_brushed_region_nothing_moves_at_all(motion):
    take, margin = lived(motion, strength=1.8), 2
    outside = np.ones((SIDE, SIDE), bool)
    outside[SIDE // 4 - margin : 3 * SIDE // 4 + margin, SIDE // 4 - margin : 3 * SIDE // 4 + margin] = False
    still = as_bytes(textured(SIDE))
    frames = take.clip()
    assert (frames[:, outside] == still[outside]).all()
    inside = box(SIDE) > 0
    assert max(np.abs(frame[inside].astype(int) - still[inside]).mean() for frame in frames) > 2


@pytest.mark.parametrize("motion", ["water", "clouds"])
def test_detail_beside_a_flow_does_not_pulse(motion):
    """Where a picture has more detail than the working resolution, half way between two copies of a flow."""
    side, settings = 384, Settings(frames=16, fps=4)
    frame = lived(motion, settings, side).frame(2 if motion == "water" else 4)
    outside = np.ones((side, side), bool)
    outside[side // 4 - 6 : 3 * side // 4 + 6, side // 4 - 6 : 3 * side // 4 + 6] = False
    assert np.array_equal(frame[outside], as_bytes(textured(side))[outside])


def test_grain_in_the_camera_moves_nothing_where_it_is_to_stand():
    take = filmed("still", textured(SIDE), grain=0.01)
    assert all(np.abs(frame.astype(int) - as_bytes(textured(SIDE))).max() <= 1 for frame in take.clip())


def test_nothing_lives_where_nothing_was_found():
    none = np.zeros((CELLS, CELLS), np.float32)
    drift = np.full((2, CELLS, CELLS), 0.1, np.float32)
    truth = Fields(np.zeros((2, len(KEY_TIMES), CELLS, CELLS), np.float32), drift, none, none, none)
    take = exact_take(textured(SIDE), truth, wish_for("water"), QUICK)
    assert not take.refined.alive.any()


def test_the_camera_moves_in_where_what_was_asked_for_is_not_found():
    """And stands where it is, or where nothing is asked for that lives at a place of its own."""
    here, none = np.full((CELLS, CELLS), 1, np.float32), np.zeros((CELLS, CELLS), np.float32)
    still, rest = np.zeros((2, len(KEY_TIMES), CELLS, CELLS), np.float32), np.zeros((2, CELLS, CELLS), np.float32)
    for alive, motion, moves in ((none, "water", True), (here, "water", False), (none, "night", False)):
        path = exact_take(textured(SIDE), Fields(still, rest, none, alive, none), wish_for(motion), QUICK).refined.path
        assert bool(path.any()) == moves


# --- what lives ---


@pytest.mark.parametrize("motion", ["water", "sway", "breathing", "clouds", "flicker"])
def test_what_lives_comes_back_as_even_as_it_goes(motion):
    """The last frame is no farther from the first than neighbours are from each other."""
    assert photo_measures.loop_difference(lived(motion, Settings(frames=32, fps=8), side=48).clip()) <= 1.05


def test_water_flows_the_way_of_the_stroke():
    for way in ((1.0, 0.0), (0.0, -1.0)):
        truth = fields(view(), Asked("", living="water"), rng(), Brush(box(CELLS), way))
        living = exact_take(textured(SIDE), truth, wish_for("water"), QUICK, box(SIDE)).refined.living
        mean = living.mean((1, 2)).numpy()
        assert np.allclose(mean / np.linalg.norm(mean), way, atol=1e-3)


def test_what_sways_stands_on_its_foot():
    take = lived("sway", Settings(frames=16, fps=4))
    first = take.frame(0)
    moved = max((measures.flow(first, take.frame(index)) for index in (2, 5, 8, 11)), key=lambda f: np.abs(f).sum())
    columns = slice(SIDE // 4 + 8, 3 * SIDE // 4 - 8)
    sizes = [np.abs(moved[row - 2 : row + 3, columns, 0]).mean() for row in (SIDE // 4 + 8, 3 * SIDE // 4 - 3)]
    assert sizes[0] > 0.4
    assert sizes[1] < 0.35 * sizes[0]


@pytest.mark.parametrize(("motion", "sign"), [("night", -1), ("day", 1)])
def test_light_comes_and_goes_in_even_steps(motion, sign):
    truth = fields(view(), Asked("", living=motion), rng())
    picture = 0.1 + 0.4 * textured(SIDE)
    take = exact_take(picture, truth, wish_for(motion), Settings(frames=12, fps=3))
    levels = np.array([frame.mean() for frame in take.clip()])
    steps = np.diff(levels) * sign
    assert steps.min() > 0
    assert steps.max() < 1.2 * steps.min()
    assert abs(levels[-1] / levels[0] - 1) > 0.2


def test_dusk_is_blue():
    truth = fields(view(), Asked("", living="night"), rng())
    grey = np.full((SIDE, SIDE, 3), 0.5, np.float32)
    last = exact_take(grey, truth, wish_for("night"), QUICK).frame(QUICK.frames - 1)
    assert last[..., 2].mean() > 1.1 * last[..., 0].mean()


# --- the camera ---


@pytest.mark.parametrize("motion", MOVING)
def test_nothing_is_shown_from_beyond_the_pictures_border(motion):
    """Two rows along the border have a colour of their own: mirrored or stretched they would show inside."""
    picture = 0.1 + 0.5 * textured(SIDE)
    for edge in (picture[:2], picture[-2:], picture[:, :2], picture[:, -2:]):
        edge[...] = MARK
    take = filmed(motion, picture, near=np.linspace(0, 1, CELLS)[:, None])
    for index in range(QUICK.frames):
        frame = take.frame(index).astype(int)
        marked = np.minimum(frame[..., 0], frame[..., 2]) - frame[..., 1] > 110
        assert not marked[5:-5, 5:-5].any(), index


@pytest.mark.parametrize("motion", MOVING)
def test_straight_lines_stay_straight(motion):
    """A dark line across a light picture, under a camera whose fields have the grain that denoising leaves."""
    y = np.arange(SIDE)[:, None] - (0.3 * SIDE + 0.4 * np.arange(SIDE))
    dark = np.clip(2.5 - np.abs(y), 0, 1)
    picture = np.repeat((0.9 - 0.8 * dark)[..., None], 3, -1).astype(np.float32)
    take = filmed(motion, picture, grain=0.004)
    for index in (3, QUICK.frames - 1):
        weight = np.clip(0.8 - take.frame(index)[..., 0] / 255, 0, 1)
        rows, columns = np.nonzero(weight > 0.3)
        if np.ptp(columns) < np.ptp(rows):
            weight = weight.T
        total = weight.sum(0)
        seen = np.flatnonzero(total[8:-8] > 0.9 * np.median(total[total > 0.5])) + 8
        middle = (weight * np.arange(SIDE)[:, None]).sum(0)[seen] / total[seen]
        assert len(seen) > SIDE // 3
        left = middle - np.polyval(np.polyfit(seen, middle, 1), seen)
        assert np.abs(left).max() < 0.3, index


@pytest.mark.parametrize("motion", ["pan_left", "tilt_down", "zoom_in", "zoom_out", "rotate_cw"])
def test_the_picture_goes_where_the_fields_say(motion):
    settings = Settings(frames=16, fps=4)
    take = filmed(motion, textured(192), settings=settings)
    reading = measures.camera(take.frame(0), take.frame(8), settings.seconds)
    assert reading.follows(motion)
    shifted = measures.TAUGHT[motion][0] in "xy"
    assert 0.8 < reading.size_of(motion) * (take.size if shifted else 1) < 1.3  # what is seen is shown larger


def test_a_hand_held_camera_is_back_where_it_began():
    frames = filmed("handheld", textured(SIDE), settings=Settings(frames=24, fps=6)).clip()
    assert photo_measures.loop_difference(frames) <= 1.3


def test_near_covers_far_and_where_far_was_hidden_its_colour_goes_on():
    """A near red square slides right before a blue ground: nearly every pixel is the one or the other."""
    picture = np.zeros((SIDE, SIDE, 3), np.float32)
    picture[..., 2] = 0.8
    picture[32:64, 32:64] = (0.8, 0.0, 0.0)
    near = np.zeros((CELLS, CELLS), np.float32)
    near[CELLS // 3 : 2 * CELLS // 3 + 1, CELLS // 3 : 2 * CELLS // 3 + 1] = 1
    take = filmed("orbit_left", picture, near)
    last = take.frame(QUICK.frames - 1).astype(int)
    red, blue = (last[..., 0] > 170) & (last[..., 2] < 50), (last[..., 0] < 50) & (last[..., 2] > 150)
    assert (red | blue).mean() > 0.96
    assert 0.85 < red.sum() * take.size**2 / 32**2 < 1.2


def test_detail_is_the_photographs_own():
    picture = as_bytes(textured(SIDE))
    take = lived("water", Settings(frames=16, fps=4))
    assert min(measures.sharpness(frame) for frame in take.clip()) > 0.85 * measures.sharpness(picture)


# --- shapes ---


def nowhere():
    """Nothing painted and nothing found."""
    return place_of(wish_for(), torch.zeros(1, 2, 8, 8), torch.zeros(1, len(PLACED), 8, 8))


def test_every_shape_is_decoded_at_the_same_resolution():
    """So that a larger picture never takes less memory, whatever its shape."""
    decoder, latents = MotionDecoder(), torch.zeros(1, CHANNELS, len(KEY_TIMES), CELLS, CELLS)
    for height, width in ((512, 512), (768, 512), (400, 1200), (1024, 1024)):
        scene = decoder.refine(torch.zeros(1, 3, height, width), latents, wish_for(), nowhere(), 4.0).scene
        assert scene.near.numel() == pytest.approx(288 * 288, rel=0.01)


@pytest.mark.parametrize("shape", [(80, 160), (160, 80)])
def test_pictures_of_any_shape_keep_it(shape):
    h, w = CELLS // 2 * (1 + (shape[0] > shape[1])), CELLS // 2 * (1 + (shape[1] > shape[0]))
    latents = torch.zeros(1, CHANNELS, len(KEY_TIMES), h, w)
    decoder, picture = MotionDecoder(), torch.rand(1, 3, *shape)
    refined = decoder.refine(picture, latents, wish_for(), nowhere(), 4.0)
    assert decoder.render(picture, refined, QUICK.moment(3), shape).shape == (3, *shape)
