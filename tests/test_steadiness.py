"""How steady a clip is: faults of known size are found at that size, and none in clips that only move."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from i2v.messages import LOCALES, UserError
from i2v.video.lab import lab_of, rgb_of
from i2v.video.optical_flow import agreeing, flow_search, motion_between, sampled
from i2v.video.steadiness import FINDINGS, FrameMeasure, Steadiness, summed_up
from i2v.video.steadiness_files import (
    FRAMES_CSV,
    REPORT,
    keep_steadiness,
    kept_steadiness,
    kept_summary,
    measure_video,
)
from i2v.video.steadiness_meter import SteadinessMeter
from i2v.video.steadiness_words import findings, in_one_line, measured_with, told
from tests.filmed import MOTIONS, SIDE, STEP, boiling, brightened, coloured, filmed
from tests.video_support import write_video

FPS = 24


def measured(clip: list[np.ndarray], seams: tuple[int, ...] = ()) -> Steadiness:
    meter = SteadinessMeter(FPS, seams=seams)
    for frame in clip:
        meter.add(frame)
    return meter.report()


# --- clips that only move ---


@pytest.mark.parametrize("motion", MOTIONS)
def test_nothing_is_found_in_a_clip_that_only_moves(motion: str) -> None:
    report = measured(filmed(motion), seams=(8, 16))
    assert report.findings == ()
    assert report.cuts == ()
    assert report.flicker < 0.001
    assert report.drift < 0.8
    assert report.warping_error < 0.015
    assert report.seam_ratio is not None
    assert report.seam_ratio < 1.25
    if motion == "pan":
        assert report.motion == pytest.approx(STEP / SIDE * FPS, rel=0.1)
    if motion == "still":
        assert (report.motion, report.flicker, report.drift, report.warping_error) == (0, 0, 0, 0)


def test_even_changes_of_light_are_no_flicker() -> None:
    """A sunset: the brightness falls by a third, frame by frame the same."""
    report = measured(brightened(filmed("pan"), np.linspace(1, 0.67, 24)))
    assert report.flicker < 0.001


# --- faults of known size ---


@pytest.mark.parametrize("amplitude", [0.01, 0.03])
@pytest.mark.parametrize("motion", ["still", "pan", "turn"])
def test_flicker_is_found_at_its_size(amplitude: float, motion: str) -> None:
    """By definition what independent changes of brightness of this seed come to."""
    gains = 1 + amplitude * np.random.default_rng(7).standard_normal(24)
    put_in = np.sqrt(np.mean(np.diff(gains, 2) ** 2) / 6) / gains.mean()
    report = measured(brightened(filmed(motion), gains))
    assert report.flicker == pytest.approx(put_in, rel=0.05)
    assert report.cuts == ()
    assert ("flickers" in report.findings) == (put_in >= 0.015)


@pytest.mark.parametrize("away", [(0, 0, -10), (0, 9, 0), (-8, 0, 0)])
def test_a_drift_of_the_colours_is_found_at_its_size(away: tuple[float, ...]) -> None:
    """In CIE Lab as OpenCV has it. Smoothed over half a second, which takes a part of the first and the last step."""
    steps = np.linspace(0, 1, 24)[:, None] * np.array(away, dtype=float)
    report = measured(coloured(filmed("pan"), steps))
    assert 0.8 * np.linalg.norm(away) < report.drift < 1.05 * np.linalg.norm(away)
    assert "drifts" in report.findings
    assert "flickers" not in report.findings


def test_a_cut_is_found_where_it_is_and_counts_for_nothing_else() -> None:
    other = [np.ascontiguousarray(frame[::-1, ::-1] // 2) for frame in filmed("zoom")]
    report = measured([*filmed("pan")[:11], *other[11:]])
    assert report.cuts == (11,)
    assert report.findings == ("cuts",)
    assert report.flicker < 0.001
    assert report.drift < 0.8


def test_a_flash_is_flicker_and_no_cut() -> None:
    gains = np.ones(24)
    gains[9] = 0.6
    report = measured(brightened(filmed("pan"), gains))
    assert report.cuts == ()
    assert report.findings[0] == "flickers"


def test_a_restless_clip_is_not_full_of_cuts() -> None:
    """Every frame is unlike the one before, one as much as another."""
    report = measured(boiling([np.full_like(filmed("still")[0], 128)] * 12, 40))
    assert min(frame.likeness for frame in report.frames[1:]) < 0.75
    assert report.cuts == ()


def test_surfaces_that_boil_are_found() -> None:
    clean, boiled = measured(filmed("pan")), measured(boiling(filmed("pan"), 14))
    assert "wobbles" in boiled.findings
    assert "cuts" not in boiled.findings
    # Noise of this strength in both of two frames, as a difference, and a little of it taken for motion.
    assert boiled.warping_error == pytest.approx(14 * 2**0.5 / 255, rel=0.25)
    assert clean.warping_error < 0.1 * boiled.warping_error


def test_seams_are_found_in_colour_and_in_motion() -> None:
    clip, seams = filmed("pan"), (8, 16)
    away = np.zeros((24, 3))
    away[8:, 0], away[16:, 2] = 3, 5
    in_colour = measured(coloured(clip, away), seams=seams)
    pushed = [np.roll(frame, 4 * (index >= 8) + 4 * (index >= 16), axis=0) for index, frame in enumerate(clip)]
    in_motion = measured(pushed, seams=seams)
    for report in (in_colour, in_motion):
        assert report.seam_ratio is not None
        assert report.seam_ratio > 2
        assert "seams" in report.findings
    # The same steps elsewhere make no seam of frames that are like all others.
    elsewhere = measured(coloured(clip, away), seams=(5, 20)).seam_ratio
    assert elsewhere is not None
    assert elsewhere < 1.25


def test_seams_that_are_no_frame_of_the_clip_are_left_out() -> None:
    report = measured(filmed("still", 4), seams=(0, 2, 4, 9))
    assert report.seams == (2,)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_the_shortest_clips_have_a_report_too(count: int) -> None:
    report = measured(filmed("pan", 24)[:count], seams=(1,))
    assert len(report.frames) == count
    assert report.findings == ()
    json.dumps(report.to_json(), allow_nan=False)
    assert len(report.csv().splitlines()) == count + 1


@pytest.mark.parametrize("level", [0, 128, 255])
def test_even_frames_are_steady(level: int) -> None:
    report = measured([np.full((40, 60, 3), level, np.uint8)] * 5)
    assert (report.findings, report.flicker, report.drift) == ((), 0.0, 0.0)


def test_a_fade_to_black_and_tiny_frames_give_numbers() -> None:
    for clip in (brightened(filmed("still", 8), np.linspace(1, 0, 8)), [frame[:6, :9] for frame in filmed("pan", 8)]):
        json.dumps(measured(clip).to_json(), allow_nan=False)


def test_a_frame_of_another_size_is_refused() -> None:
    meter = SteadinessMeter(FPS)
    meter.add(np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(ValueError, match="another size"):
        meter.add(np.zeros((64, 32, 3), np.uint8))


def test_what_is_held_does_not_grow_with_the_clip() -> None:
    """Frames of 1280 x 720 come one by one; the whole clip would be 110 MB."""
    big = [cv2.resize(frame, (1280, 720)) for frame in filmed("pan", 2)]
    meter = SteadinessMeter(FPS)
    for _ in range(2):
        for frame in big:
            meter.add(frame)
    tracemalloc.start()
    try:
        meter.add(big[0])
        first = tracemalloc.get_traced_memory()[1]
        for index in range(40):
            meter.add(big[index % 2].copy())
        grown = tracemalloc.get_traced_memory()[1] - first
    finally:
        tracemalloc.stop()
    assert grown < big[0].nbytes * 1.5  # the copy itself, and the numbers


# --- arithmetic ---

NUMBERS = st.floats(-1, 1, allow_nan=False, width=32)
CLIPS = st.lists(st.lists(NUMBERS, min_size=13, max_size=13).map(lambda row: FrameMeasure(*row)), max_size=30)


@given(CLIPS, st.sets(st.integers(-2, 40), max_size=4))
def test_any_measures_have_a_report_that_survives_a_file(frames: list[FrameMeasure], seams: set[int]) -> None:
    report = summed_up(frames, 8, method="any", seams=seams)
    read = Steadiness.from_json(json.loads(json.dumps(report.to_json(), allow_nan=False)))
    assert read.summary == report.summary
    assert Steadiness.from_summary(report.summary) == replace(report, frames=())
    rows = list(csv.DictReader(io.StringIO(report.csv())))
    assert [int(row["frame"]) for row in rows if row["cut"] == "1"] == list(report.cuts)
    assert [int(row["frame"]) for row in rows if row["seam"] == "1"] == list(report.seams)
    assert max((float(row["drift"]) for row in rows), default=0.0) == pytest.approx(report.drift, rel=1e-4)
    assert set(report.findings) <= set(FINDINGS)


@given(st.lists(st.floats(-0.05, 0.05), min_size=5, max_size=30), st.floats(-0.01, 0.01), st.floats(0.1, 3))
def test_flicker_grows_with_the_changes_and_not_with_an_even_rise(
    luma: list[float], slope: float, times: float
) -> None:
    def flicker(values: np.ndarray) -> float:
        changes = [0.0, *np.diff(values)]
        return summed_up([FrameMeasure(0.5, 50, 0, 0, luma_change=one) for one in changes], 8, method="any").flicker

    values = np.array(luma)
    assert flicker(times * values) == pytest.approx(times * flicker(values), abs=1e-9)
    assert flicker(values + slope * np.arange(len(luma))) == pytest.approx(flicker(values), abs=1e-9)
    assert flicker(values[::-1]) == pytest.approx(flicker(values), abs=1e-9)


def test_lab_is_that_of_others() -> None:
    """Bruce Lindbloom's calculator for sRGB, D65; and back from it a thousand colours are what they were."""
    known = {
        (255, 255, 255): (100, 0, 0),
        (255, 0, 0): (53.2408, 80.0925, 67.2032),
        (0, 0, 255): (32.2970, 79.1875, -107.8602),
        (0, 255, 0): (87.7347, -86.1827, 83.1793),
        (128, 128, 128): (53.5850, 0, 0),
        (0, 0, 0): (0, 0, 0),
    }
    for rgb, lab in known.items():
        assert lab_of(np.array([[rgb]], np.uint8))[0, 0] == pytest.approx(lab, abs=0.02)
    colours = np.random.default_rng(3).integers(0, 256, (1, 1000, 3), np.uint8)
    assert np.abs(rgb_of(lab_of(colours)).astype(int) - colours).max() <= 1


# --- motion ---


def test_the_motion_found_is_the_motion_filmed() -> None:
    first, second = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in filmed("pan", 4)[1:3])
    search = flow_search()
    there, back = search(first, second), search(second, first)
    quick = flow_search(quick=True)(first, second)
    assert np.median(there.reshape(-1, 2), axis=0) == pytest.approx([STEP, 0], abs=0.1)
    both = agreeing(back, quick)
    assert both[:, :1].mean() < 0.5  # has just come into view
    assert both[8:-8, 8:-8].mean() > 0.8


@pytest.mark.parametrize("rows", [6, 10, 40])
def test_the_motion_of_narrow_frames_is_found_too(rows: int) -> None:
    """Frames of few rows are enlarged for the search, and what is found there is made small again."""
    first, second = (np.ascontiguousarray(frame[60 : 60 + rows]) for frame in filmed("pan", 4)[1:3])
    motion = motion_between(first, second)
    assert motion.there.shape == motion.back.shape == (rows, SIDE, 2)
    assert np.median(motion.there.reshape(-1, 2), axis=0) == pytest.approx([STEP, 0], abs=0.1)
    assert np.median(motion.back.reshape(-1, 2), axis=0) == pytest.approx([-STEP, 0], abs=0.1)
    for seen in (motion.seen_there, motion.seen_back):
        assert set(np.unique(seen)) == {0, 1}
        assert seen.mean() > 0.75


@given(st.integers(0, 2**32), st.sampled_from([(20, 30), (20, 30, 3), (7, 5, 2)]), st.booleans())
def test_whole_pixels_are_looked_up_where_the_flow_leads_to(seed: int, shape: tuple[int, ...], sharp: bool) -> None:
    """As NumPy's own indices have it, the border's beyond the border."""
    rng = np.random.default_rng(seed)
    picture = rng.random(shape, np.float32)
    flow = rng.integers(-9, 9, (*shape[:2], 2))
    rows, columns = np.indices(shape[:2])
    rows, columns = rows + flow[..., 1], columns + flow[..., 0]
    theirs = picture[rows.clip(0, shape[0] - 1), columns.clip(0, shape[1] - 1)]
    assert np.allclose(sampled(picture, flow.astype(np.float32), sharp=sharp), theirs, atol=1e-6)


# --- files ---


def test_a_video_file_is_as_steady_as_the_frames_it_was_made_of(tmp_path: Path) -> None:
    gains = 1 + 0.03 * np.random.default_rng(7).standard_normal(24)
    clip = brightened(filmed("pan"), gains)
    made = measured(clip)
    read = measure_video(write_video(tmp_path / "video.mp4", clip, fps=FPS))
    assert len(read.frames) == 24
    assert (read.source, made.source) == ("video", "frames")
    assert read.fps == pytest.approx(FPS)
    assert read.flicker == pytest.approx(made.flicker, rel=0.1)
    assert read.motion == pytest.approx(made.motion, rel=0.1)
    assert read.findings == made.findings
    luma = [(one.luma, other.luma) for one, other in zip(read.frames, made.frames, strict=True)]
    assert np.abs(np.diff(luma)).max() < 0.01


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "no.mp4").write_text("no")
    for name in ("no.mp4", "missing.mp4"):
        with pytest.raises(UserError):
            measure_video(tmp_path / name)


def test_a_report_is_kept_and_read_again(tmp_path: Path) -> None:
    report = measured(filmed("pan", 6), seams=(3,))
    keep_steadiness(tmp_path, report)
    assert kept_summary(tmp_path) == replace(report, frames=())
    kept = kept_steadiness(tmp_path)
    assert kept is not None
    assert kept.summary == report.summary
    assert len(kept.frames) == 6
    assert (tmp_path / FRAMES_CSV).read_text() == report.csv()
    keep_steadiness(tmp_path, measured(filmed("pan", 7)))
    assert kept_summary(tmp_path) != replace(report, frames=())


@pytest.mark.parametrize("change", [{"version": 0}, {"frames": {}}, {"flicker": None}, {"cuts": 3}, None])
def test_a_report_that_cannot_be_read_is_none(tmp_path: Path, change: dict[str, object] | None) -> None:
    values = measured(filmed("pan", 3)).to_json()
    text = json.dumps({**values, **change}) if change else json.dumps(values)[:50]
    (tmp_path / REPORT).write_text(text)
    assert kept_steadiness(tmp_path) is None
    assert kept_summary(tmp_path) is None
    assert kept_summary(tmp_path / "nowhere") is None


# --- words ---


@pytest.mark.parametrize("locale", LOCALES)
def test_a_report_in_words_says_what_is_in_it(locale: str) -> None:
    bad = summed_up(
        [FrameMeasure(0.5, 50, 0, 0, 0.1 * (-1) ** i, 2.0, error=0.2, likeness=0.1 if i == 4 else 1) for i in range(9)],
        8, method="opencv-dis", seams=(2,),
    )  # fmt: skip
    steady = summed_up([], 8, method="numpy-lucas-kanade", source="video")
    for report in (bad, steady):
        line = in_one_line(report.summary)
        assert line is not None
        words = [line.render(locale), findings(report, locale), measured_with(report).render(locale)]
        words += [one.render(locale) for row in told(report) for one in (row.name, row.value, row.about)]
        assert not [word for word in words if "steadiness." in word or "{" in word]
    assert "0.50 s" in " ".join(row.value.render(locale) for row in told(bad))
    assert findings(bad, "en") == "flickers, colours drift, has cuts, surfaces wobble"
    assert findings(steady, "en") == "steady"
    assert in_one_line({"flicker": "much"}) is None
