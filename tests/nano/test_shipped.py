"""The weights that ship: small enough, and moving the example pictures as they are told."""

import random
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tools.train_nano import measures
from tools.train_nano.clips import Maker, Settings
from tools.train_nano.export import MAX_FILE_BYTES, MAX_TOTAL_BYTES
from tools.train_nano.prompts import phrase

ASSETS = Path(__file__).parents[2] / "i2v" / "assets"
QUICK = Settings(side=256, frames=12, steps=8, guidance=1.0)
LAKE_SHORE, ROSE = 0.6, (0.5, 0.44, 0.26)  # row of the water's edge; centre and radius of the flower, shares of a side


@cache
def maker():
    return Maker(ASSETS / "nano")


def picture(name):
    return Image.open(ASSETS / "examples" / f"{name}.jpg").convert("RGB").resize((256, 256), Image.Resampling.LANCZOS)


@cache
def clip(name, prompt, seed=1, settings=QUICK):
    return maker().clip(picture(name), prompt, seed, settings)


def moved(frames):
    """Mean displacement between the first and the last frame, in shares of the side."""
    return float(np.linalg.norm(measures.flow(frames[0], frames[-1]), axis=-1).mean() / frames.shape[2])


def test_it_is_small_enough_for_a_repository_and_holds_no_pickles():
    files = [path for path in (ASSETS / "nano").rglob("*") if path.is_file()]
    sizes = [path.stat().st_size for path in files]
    assert sum(sizes) <= MAX_TOTAL_BYTES
    assert max(sizes) <= MAX_FILE_BYTES
    assert {path.suffix for path in files} == {".safetensors", ".json", ".md", ".txt"}


@pytest.mark.parametrize("motion", measures.TAUGHT)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_camera_moves_as_asked_in_wordings_never_trained_on(motion, language):
    text = phrase(motion, "normal", language, random.Random(motion + language), held_out=True)[0]
    reading = measures.camera(clip("lamp" if language == "en" else "lake", text))
    assert reading.follows(motion), (text, reading)


def test_the_first_frame_is_the_picture():
    assert np.array_equal(clip("lake", "zoom in")[0], np.asarray(picture("lake")))


def test_strength_words_count():
    sizes = [
        measures.camera(clip("lamp", text)).size_of("zoom_in") for text in ("slow zoom in", "zoom in", "fast zoom in")
    ]
    assert sizes[0] < 0.8 * sizes[1] < 0.8 * 0.8 * sizes[2]


def test_water_ripples_below_the_shore_and_nothing_else_moves():
    water = np.zeros((256, 256), np.float32)
    water[int(256 * LAKE_SHORE) :] = 1
    assert measures.region_ratio(clip("lake", "the water ripples"), water) >= 3


def test_a_flower_opens_and_its_surroundings_stay():
    y, x = (np.mgrid[:256, :256] + 0.5) / 256
    flower = (np.hypot(x - ROSE[0], y - ROSE[1]) < ROSE[2]).astype(np.float32)
    frames = clip("rose", "the flower blooms")
    assert measures.region_ratio(frames, cv2.GaussianBlur(flower, (0, 0), 2)) >= 3
    flow = measures.flow(frames[0], frames[-1]) / 256
    outwards = (flow[..., 0] * (x - ROSE[0]) + flow[..., 1] * (y - ROSE[1]))[flower > 0.5]
    assert outwards.mean() > 0


def test_night_falls_and_day_comes():
    night, day = (clip("lake", text).astype(np.float32).mean((1, 2, 3)) for text in ("night falls", "天亮起来"))
    assert night[-1] < 0.7 * night[0]
    assert day[-1] > 1.05 * day[0]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("xqzw vrrt plmm", marks=pytest.mark.xfail(reason="hardly moves this picture", strict=True)),
        "鲲鹏展翅",
        "the quarterly report is late",
    ],
)
def test_unknown_prompts_move_gently(text):
    assert 0.002 < moved(clip("lamp", text)) < 0.08


def test_seeds_differ():
    one, other = (clip("lake", "hand-held camera", seed) for seed in (1, 2))
    assert measures.psnr(one[1:], other[1:]) < 40
