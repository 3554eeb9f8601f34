"""The training data says what it means: motions go where their names say, sentences keep their secrets."""

import random

import numpy as np
import pytest
import torch

from i2v.families.nano.fields import KEY_TIMES
from i2v.families.nano.life import LIVING
from i2v.families.nano.reader import CAMERA
from tests.nano.pictures import textured
from tools.train_nano import measures
from tools.train_nano.clips import Settings, exact_take, frozen_clip, wish_for, zoom_clip
from tools.train_nano.dataset import make_batch
from tools.train_nano.motions import PAN_RATE, Brush, View, above_foot, fields
from tools.train_nano.network import TOKENS
from tools.train_nano.prompts import Asked, phrase, wordings
from tools.train_nano.scenes import make_scene

QUICK = Settings(frames=8, fps=2)


def view_of(library, seed, want=None, side=96):
    return View.of(make_scene(library, side, side, np.random.default_rng(seed), want))


def made(view, asked, seed=0, brush=None):
    return fields(view, asked, np.random.default_rng(seed), brush)


@pytest.mark.parametrize("motion", measures.TAUGHT)
def test_exact_fields_are_read_back_as_the_motion_they_were_made_for(library, motion):
    view = view_of(library, 1)
    view.near[:] = 0.5
    take = exact_take(textured(), made(view, Asked("", camera=motion), 2), wish_for(), QUICK)
    reading = measures.camera(take.frame(0), take.frame(4), QUICK.seconds)
    assert reading.follows(motion), reading
    if motion != "still":
        assert 0.7 < reading.size_of(motion) < 1.5


def test_controls_follow_no_prompt():
    picture = textured()
    clips = frozen_clip(picture, QUICK.frames), zoom_clip(picture, QUICK)
    frozen, zoomed = (measures.camera(clip[0], clip[4], QUICK.seconds) for clip in clips)
    assert [m for m in measures.TAUGHT if frozen.follows(m)] == ["still"]
    assert [m for m in measures.TAUGHT if zoomed.follows(m)] == ["zoom_in"]


@pytest.mark.parametrize("motion", [*CAMERA, *LIVING])
def test_every_motion_grows_with_its_strength(library, motion):
    view = view_of(library, 3, motion if motion in LIVING else None)
    part = "living" if motion in LIVING else "camera"
    sizes = []
    for strength in (0.5, 1.8):
        truth = made(view, Asked("", **{part: motion, f"{part}_strength": strength}), 4)
        assert truth.camera.shape == (2, len(KEY_TIMES), *view.near.shape)
        sizes.append(sum(np.abs(field).sum() for field in (truth.camera, truth.living * truth.alive, truth.light)))
    assert motion == "still" or sizes[1] > 1.5 * sizes[0] > 0


@pytest.mark.parametrize(("motion", "region"), [("water", "water"), ("clouds", "sky"), ("sway", "plants")])
def test_living_motions_are_alive_in_their_region(library, motion, region):
    view = view_of(library, 6, motion)
    view.things.clear()
    assert np.array_equal(made(view, Asked("", living=motion)).alive, view.regions[region])


@pytest.mark.parametrize("motion", ["water", "sway", "petals", "breathing", "clouds"])
def test_what_is_brushed_lives_whatever_it_is(library, motion):
    view = view_of(library, 7, motion)
    region = np.zeros_like(view.near)
    region[3:9, 2:7] = 1
    truth = made(view, Asked("", living=motion), brush=Brush(region))
    assert np.array_equal(truth.alive, region)
    assert np.abs(truth.living)[:, region > 0].mean() > 0.002


def test_what_flows_follows_the_stroke(library):
    view = view_of(library, 7, "water")
    for motion in ("water", "clouds"):
        truth = made(view, Asked("", living=motion), brush=Brush(np.ones_like(view.near), (0.0, -1.0)))
        assert not truth.living[0].any()
        assert (truth.living[1] < 0).all()


def test_what_sways_bends_from_its_foot():
    region = np.zeros((10, 6), np.float32)
    region[2:8] = 1
    height = above_foot(region)[:, 0]
    assert height[7] < 0.1 < 0.9 < height[2]
    assert (np.diff(height) <= 0).all()
    assert not height[8:].any()


def test_near_moves_more_than_far_in_a_dolly(library):
    view = view_of(library, 8)
    view.near[:, : view.near.shape[1] // 2], view.near[:, view.near.shape[1] // 2 :] = 0.1, 0.9
    moved = np.abs(made(view, Asked("", camera="dolly_in"), 9).camera[0, -1])
    assert moved[:, -1].mean() > 2 * moved[:, 0].mean()


def test_half_of_a_cameras_way_is_gone_at_half_the_clip(library):
    view = view_of(library, 8)
    view.near[:] = 0.5
    half, whole = made(view, Asked("", camera="pan_left"), 9).camera[0].mean((1, 2))
    assert half == pytest.approx(whole / 2, rel=1e-3)
    assert whole == pytest.approx(PAN_RATE, rel=0.2)


def test_held_out_wordings_are_never_trained_on():
    rng = random.Random(0)
    for motion, words in wordings()["motions"].items():
        for language in ("en", "zh"):
            trained = {phrase(motion, "normal", language, rng)[0] for _ in range(600)}
            held_out = {text.format(a="", d="") for text in words[f"held_out_{language}"]}
            assert not trained & held_out, motion


def test_every_motion_has_wordings_in_both_languages():
    assert set(wordings()["motions"]) == {*CAMERA, *LIVING}
    for motion, words in wordings()["motions"].items():
        assert len(words["en"]) >= 8, motion
        assert len(words["zh"]) >= 5, motion


def test_opposite_directions_share_no_wording():
    for one, other in (("zoom_in", "zoom_out"), ("pan_left", "pan_right"), ("tilt_up", "tilt_down")):
        for key in ("en", "zh", "held_out_en", "held_out_zh"):
            assert not set(wordings()["motions"][one][key]) & set(wordings()["motions"][other][key])


def test_batches_are_the_same_for_the_same_seed_and_differ_otherwise(library):
    one, two, three = (make_batch(library, (16, 16), 2, seed) for seed in (1, 1, 2))
    assert torch.equal(one.latents, two.latents)
    assert torch.equal(one.seen, two.seen)
    assert one.texts == two.texts
    assert not torch.equal(one.latents, three.latents)
    assert one.latents.shape == (2, 7, len(KEY_TIMES), 16, 16)
    assert one.seen.shape == (2, 21, 16, 16)
    assert torch.isfinite(one.latents).all()


def test_the_tokenizer_splits_chinese_by_character_and_never_fails(tokenizer):
    ids = tokenizer("镜头缓慢地放大")["input_ids"]
    assert len(ids) == 7 + 2
    for text in ("", "𠮷 emoji 🎥 ñandú", "zoom in " * 60):
        ids = tokenizer(text, truncation=True, max_length=TOKENS, padding="max_length")["input_ids"]
        assert len(ids) == TOKENS
        assert max(ids) < len(tokenizer)


def test_upper_and_lower_case_are_one(tokenizer):
    assert tokenizer("Zoom In")["input_ids"] == tokenizer("zoom in")["input_ids"]
