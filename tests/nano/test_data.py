"""The training data says what it means: motions go where their names say, sentences keep their secrets."""

import random

import numpy as np
import pytest
import torch

from tests.nano.pictures import textured
from tools.train_nano import measures
from tools.train_nano.clips import frozen_clip, true_clip, zoom_clip
from tools.train_nano.dataset import Shape, make_batch
from tools.train_nano.motions import View, fields
from tools.train_nano.network import TOKENS
from tools.train_nano.prompts import CAMERA, LIVING, Asked, phrase, wordings
from tools.train_nano.scenes import make_scene

FRAMES = np.arange(16, dtype=np.float32)
READ_FRAMES = FRAMES[: measures.FLOW_FRAME + 1]  # the camera's motion is read off the last of these


@pytest.mark.parametrize("motion", measures.TAUGHT)
def test_exact_fields_are_read_back_as_the_motion_they_were_made_for(library, motion):
    scene = make_scene(library, 96, 96, np.random.default_rng(1))
    scene.near[:] = 0.5
    truth = fields(scene, Asked("", camera=motion), READ_FRAMES, np.random.default_rng(2))
    reading = measures.camera(true_clip(textured(), truth))
    assert reading.follows(motion), reading
    if motion != "still":
        assert 0.7 < reading.size_of(motion) < 1.4


def test_controls_follow_no_prompt():
    picture = textured()
    clips = frozen_clip(picture, len(READ_FRAMES)), zoom_clip(picture, len(READ_FRAMES))
    frozen, zoomed = map(measures.camera, clips)
    assert [m for m in measures.TAUGHT if frozen.follows(m)] == ["still"]
    assert [m for m in measures.TAUGHT if zoomed.follows(m)] == ["zoom_in"]


@pytest.mark.parametrize("motion", [*CAMERA, *LIVING])
def test_every_motion_starts_from_rest_and_grows_with_strength(library, motion):
    want = motion if motion in LIVING else None
    scene = make_scene(library, 96, 96, np.random.default_rng(3), want)
    part = {"living": motion} if motion in LIVING else {"camera": motion}
    sizes = []
    for strength in (0.5, 1.8):
        asked = Asked("", **part, **{f"{next(iter(part))}_strength": strength})
        made = fields(scene, asked, FRAMES, np.random.default_rng(4))
        assert np.abs(made.camera[:, 0]).max() < 1e-6
        assert np.abs(made.living[:, 0]).max() < 1e-6
        assert np.abs(made.light[0]).max() < 1e-6
        sizes.append(np.abs(made.displacement).sum() + np.abs(made.light).sum())
    assert motion == "still" or sizes[1] > 1.5 * sizes[0] > 0


@pytest.mark.parametrize(("motion", "region"), [("water", "water"), ("clouds", "sky"), ("sway", "plants")])
def test_living_motions_stay_in_their_region(library, motion, region):
    scene = make_scene(library, 96, 96, np.random.default_rng(6), motion)
    scene.things.clear()
    made = fields(scene, Asked("", living=motion), FRAMES, np.random.default_rng(7))
    mask = View.of(scene).regions[region]
    speed = np.abs(made.displacement).sum((0, 1))
    assert speed[mask > 0.9].mean() > 0
    assert speed[mask == 0].max() == 0


def test_near_moves_more_than_far_in_a_dolly(library):
    scene = make_scene(library, 96, 96, np.random.default_rng(8))
    scene.near[:, :48], scene.near[:, 48:] = 0.1, 0.9
    made = fields(scene, Asked("", camera="dolly_in"), FRAMES, np.random.default_rng(9)).displacement[0, -1]
    assert np.abs(made[:, -1]).mean() > 2 * np.abs(made[:, 0]).mean()


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
    shape = Shape(16, 16, 8)
    one, two, three = (make_batch(library, shape, 2, seed) for seed in (1, 1, 2))
    assert torch.equal(one.latents, two.latents)
    assert one.texts == two.texts
    assert not torch.equal(one.latents, three.latents)
    assert one.latents.shape == (2, 7, 8, 16, 16)
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
