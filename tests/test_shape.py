"""Aspect, quality and seconds: what they make of numbers, and what numbers make of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobs_support import settings_in

from i2v.families import SPECS
from i2v.jobs.asked.prepare import default_size
from i2v.ui.create.shape import (
    ASPECTS,
    LENGTHS,
    OWN,
    PICTURE,
    QUALITIES,
    length_note,
    lengths,
    named_shape,
    shaped_size,
)

NANO, USUAL = SPECS["nano"], (512, 512)
sides = st.integers(200, 6000)
pictures = st.tuples(sides, sides).filter(lambda size: 1 / 3 < size[0] / size[1] < 3)


@pytest.mark.parametrize(
    ("aspect", "quality", "size"),
    [
        ("1:1", "draft", (256, 256)),
        ("1:1", "standard", (512, 512)),
        ("1:1", "fine", (768, 768)),
        ("16:9", "standard", (680, 384)),
        ("9:16", "standard", (384, 680)),
        (OWN, "standard", None),
        ("1:1", OWN, None),
        ("<b>", "fine", None),
    ],
)
def test_a_choice_is_a_size(aspect: str, quality: str, size: tuple[int, int] | None) -> None:
    assert shaped_size(NANO, USUAL, aspect, quality, None) == size


@given(st.sampled_from([PICTURE, *ASPECTS]), st.sampled_from(list(QUALITIES)), pictures | st.none())
def test_a_size_has_the_shape_and_the_pixels_and_is_recognised(aspect: str, quality: str, picture: Any) -> None:
    for spec in SPECS.values():
        size = shaped_size(spec, USUAL, aspect, quality, picture)
        assert size is not None
        spec.check(task=spec.usual_task, width=size[0], height=size[1], num_frames=spec.defaults.num_frames)
        if spec.only_size is not None:
            continue
        ratio = (picture or USUAL) if aspect == PICTURE else ASPECTS[aspect]
        step = spec.size_multiple
        # Each side is rounded by half a step at most.
        assert (size[0] - step / 2) / (size[1] + step / 2) <= ratio[0] / ratio[1] + 1e-9
        assert (size[0] + step / 2) / (size[1] - step / 2) >= ratio[0] / ratio[1] - 1e-9
        assert (
            (size[0] - step) * (size[1] - step)
            < 512 * 512 * QUALITIES[quality] ** 2
            < (size[0] + step) * (size[1] + step)
        )
        assert named_shape(spec, USUAL, size, (aspect, quality), picture) == (aspect, quality)


@given(pictures)
def test_what_the_page_proposes_for_a_picture_is_called_so(tmp_path_factory: Any, picture: tuple[int, int]) -> None:
    settings, _ = settings_in(tmp_path_factory.getbasetemp())
    usual = default_size(NANO, settings)
    proposed = default_size(NANO, settings, picture)
    assert named_shape(NANO, usual, proposed, ("16:9", "fine"), picture)[0] != OWN
    assert named_shape(NANO, usual, proposed, (PICTURE, "standard"), picture) == (PICTURE, "standard")


@pytest.mark.parametrize("size", [(520, 64), (513, 512), (None, 512), ("x", 512), (4096, 64)])
def test_other_numbers_are_somebodys_own(size: tuple[Any, Any]) -> None:
    assert named_shape(NANO, USUAL, size, ("1:1", "standard"), (900, 300)) == (OWN, OWN)


def test_the_length_is_told_in_seconds() -> None:
    assert "16 frames at 12 per second play for 1.3 s." in length_note("en", 512, 512, 16, 12)
    assert "可播放 2.0 秒" in length_note("zh-CN", 64, 64, 16, 8)
    assert [length_note("en", 64, 64, *given) for given in ((0, 8), (16, 0), (None, 8), ("<b>", 8))] == [""] * 4


@given(st.sampled_from(list(SPECS)), st.integers(1, 120), st.integers(1, 300))
def test_every_length_offered_can_be_made_and_the_present_one_is_among_them(name: str, fps: int, frames: int) -> None:
    spec = SPECS[name]
    offered = lengths(spec, frames, fps)
    assert frames in offered
    assert offered == sorted(set(offered))
    for count in set(offered) - {frames}:
        width, height = spec.only_size or (512, 512)
        spec.check(task=spec.usual_task, width=width, height=height, num_frames=count)
        assert count <= spec.hints.max_frames
        # A length offered is one of LENGTHS, but for the model's rule of frames.
        assert min(abs(count - seconds * fps) for seconds in LENGTHS) <= max(spec.frame_step, 1)


def test_lengths_are_those_that_suit_the_model() -> None:
    assert lengths(SPECS["nano"], 16, 12) == [6, 12, 16, 18, 24, 36, 48, 60, 72, 96, 120, 180, 240, 360, 720]
    assert lengths(SPECS["i2vgen_xl"], 16, 8) == [
        *(4, 8, 12, 16, 24, 32, 40, 48, 64, 80, 120, 160, 240, 480),
    ]
    assert [lengths(SPECS["nano"], 16, fps) for fps in (None, 0, "x", -1)] == [[]] * 4
