"""What is read of a folder of clips, and what is random in training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from PIL import Image

from i2v.families import SPECS
from i2v.families.nano.fields import CAMERA_UNIT, CLIP_SECONDS, positions
from i2v.families.nano.training import _measured_motion
from i2v.messages import UserError
from i2v.training.clips import PROPORTIONS, bucket_size, caption_of, frames_of, read_folder
from i2v.training.draws import Order, draw_of_step, order_of_epoch, part_of
from i2v.video.writer import VideoWriter
from tests.training.small_trainings import CAPTIONS, FPS, FRAMES, SIDE, make_clips, small_request


def request(clips: Path, family: str = "nano", **changes: object):
    return replace(small_request(family, clips, clips, clips), **changes)


def refusal(run: Callable[[], object]) -> str:
    with pytest.raises(UserError) as refused:
        run()
    return refused.value.message.id


def test_folders_of_pictures_and_films_are_clips_with_their_captions(tmp_path: Path) -> None:
    make_clips(tmp_path, count=2)
    with VideoWriter(tmp_path / "the_water-falls_07.mp4", width=160, height=96, fps=FPS, metadata={}) as film:
        for level in range(0, 240, 20):
            film.write(np.full((96, 160, 3), level, np.uint8))
    (tmp_path / "notes.pdf").write_bytes(b"no clip")
    (tmp_path / ".hidden.mp4").write_bytes(b"no clip")
    found = read_folder(request(tmp_path, trigger="sks"), SPECS["nano"])
    assert [one.caption for one in found.clips] == [
        f"sks, {CAPTIONS[0]}",
        f"sks, {CAPTIONS[1]}",
        "sks, the water falls",
    ]
    assert found.left_out == ()
    assert {one.num_frames for one in found.clips} == {FRAMES}
    assert found.clips[0].bucket != found.clips[2].bucket
    for clip in found.clips:
        frames = frames_of(clip, FPS)
        assert [one.size for one in frames] == [(clip.width, clip.height)] * clip.num_frames
    grey = [np.asarray(one).mean() for one in frames_of(found.clips[2], FPS)]
    assert grey == sorted(grey)


def test_a_clip_that_cannot_be_used_is_left_out_and_told(tmp_path: Path) -> None:
    make_clips(tmp_path, count=1)
    make_clips(tmp_path / "short", count=1, frames=1)
    (tmp_path / "short/clip0").rename(tmp_path / "one picture")
    (tmp_path / "broken.mp4").write_bytes(b"no film at all")
    (tmp_path / "clip9").mkdir()
    Image.new("RGB", (SIDE, SIDE)).save(tmp_path / "clip9/0.png")
    (tmp_path / "clip9.txt").write_bytes(b"\xff\xfe\x00broken")
    found = read_folder(request(tmp_path), SPECS["nano"])
    assert [one.path.name for one in found.clips] == ["clip0"]
    assert {one.id for one in found.left_out} == {"clip.unknown", "training.clip_short"}
    only_bad = tmp_path / "bad"
    only_bad.mkdir()
    (tmp_path / "broken.mp4").rename(only_bad / "broken.mp4")
    assert refusal(lambda: read_folder(request(only_bad), SPECS["nano"])) == "training.no_good_clips"
    (tmp_path / "empty").mkdir()
    assert refusal(lambda: read_folder(request(tmp_path / "empty"), SPECS["nano"])) == "training.no_clips"
    assert refusal(lambda: read_folder(request(tmp_path / "nowhere"), SPECS["nano"])) == "training.clips_unreadable"


@pytest.mark.parametrize(
    ("name", "caption"),
    [
        ("the_camera_spirals-in.mp4", "the camera spirals in"),
        ("a rose (12).mov", "a rose"),
        ("a_rose_12.webm", "a rose"),
        ("1234.mp4", ""),
        ("水流 3.mp4", "水流"),
    ],
)
def test_a_name_is_a_caption(tmp_path: Path, name: str, caption: str) -> None:
    assert caption_of(tmp_path / name) == caption


@given(some.integers(64, 4000), some.integers(64, 4000), some.sampled_from(("nano", "hunyuan_video")))
def test_a_bucket_has_the_pixels_that_were_asked_for_in_nearly_the_clips_shape(width: int, height: int, family: str):
    spec, asked = SPECS[family], request(Path("."), family, width=512, height=384)
    w, h = bucket_size(width, height, asked, spec)
    assert w % spec.size_multiple == h % spec.size_multiple == 0
    assert 0.8 < w * h / (512 * 384) < 1.25
    shape = min(max(width / height, min(PROPORTIONS)), max(PROPORTIONS))
    assert 0.8 < (w / h) / shape < 1.25


@given(
    some.lists(some.sampled_from("abc"), min_size=1, max_size=12),
    some.integers(1, 5),
    some.integers(0, 2**31 - 1),
    some.integers(0, 3),
)
def test_each_pass_shows_every_clip_in_batches_of_one_size(buckets: list[str], batch: int, seed: int, epoch: int):
    batches = order_of_epoch(buckets, batch, seed, epoch)
    assert {len(one) for one in batches} == {batch}
    assert {number for one in batches for number in one} == set(range(len(buckets)))
    assert all(len({buckets[number] for number in one}) == 1 for one in batches)
    assert batches == order_of_epoch(buckets, batch, seed, epoch)


def test_from_any_step_on_the_same_is_drawn() -> None:
    buckets, shapes = ["a"] * 5 + ["b"] * 3, [torch.Size((1, 2, 3))] * 4
    order = Order(buckets, 4, seed=1)
    straight = [order.of_step(step) for step in range(12)]
    assert [Order(buckets, 4, seed=1).of_step(step) for step in reversed(range(12))] == straight[::-1]
    assert len(set(straight)) > 3
    draws = [draw_of_step(shapes, 1, step, 0.5) for step in (3, 3, 4)]
    assert torch.equal(draws[0].noise, draws[1].noise)
    assert not torch.equal(draws[0].noise, draws[2].noise)
    assert draws[0].noise.shape == (4, 2, 3)
    assert sorted((draws[0].levels * 4).long().tolist()) == [0, 1, 2, 3]  # one in each quarter
    assert torch.equal(part_of(draws[0], 1, 3).noise, draws[0].noise[1:3])


@pytest.mark.parametrize(
    ("turn", "grow", "way"), [(0.5, 0.3, (0, 0)), (-0.4, -0.25, (0, 0)), (0.0, 0.0, (0.12, -0.06))]
)
def test_what_a_film_does_is_what_nano_is_taught(turn: float, grow: float, way: tuple[float, float]) -> None:
    """Against the transform that OpenCV drew the film with."""
    count, side = 24, 192
    noise = np.random.default_rng(1).integers(0, 255, (24, 24, 3), np.uint8)
    still = cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)
    frames = []
    for number in range(count):
        share = number / (count - 1)
        moved = cv2.getRotationMatrix2D(((side - 1) / 2,) * 2, -np.degrees(turn * share), np.exp(grow * share))
        moved[:, 2] += np.array(way) * side * share
        drawn = cv2.warpAffine(still, moved, (side, side), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
        frames.append(Image.fromarray(drawn))
    fps = round(count / CLIP_SECONDS)
    camera, light = _measured_motion(frames, request(Path("."), width=side, height=side, fps=fps))
    cells = positions(*camera.shape[-2:], 1.0)
    turned = np.exp(grow) * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    wanted = np.einsum("ij,jhw->ihw", turned - np.eye(2), cells.numpy()) + np.array(way)[:, None, None]
    found = camera[0, :, 1].numpy() * CAMERA_UNIT
    assert np.abs(found - wanted).max() < 0.03
    assert light.abs().max() < 0.2
    half = camera[0, :, 0].numpy() * CAMERA_UNIT
    assert np.linalg.norm(half) == pytest.approx(np.linalg.norm(wanted) / 2, rel=0.15)
