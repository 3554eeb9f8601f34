"""What finishing stages do to clips whose motion, flicker and drift are known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from i2v.finishing.chain import Finishing
from i2v.finishing.cost import finishing_cost
from i2v.finishing.deflicker import Deflicker
from i2v.finishing.match_colours import MatchColours
from i2v.finishing.offers import REPORT, offers, offers_for
from i2v.finishing.stage import Frame
from i2v.finishing.steady import trend_at
from i2v.request import INTERPOLATIONS, Finish, GenerationRequest
from tests.finishing.clips import Frames, colours, detail, moving_camera, passing_object, psnr, unsteady

DRIFT = (6.0, -5.0, 8.0)


def finished(finish: Finish, frames: Sequence[np.ndarray], photograph: Frame | None = None) -> tuple[Frames, dict]:
    finishing = Finishing(finish, photograph)
    return list(finishing.frames(iter(frames))), finishing.told()


def jumps(frames: Sequence[np.ndarray], true: Sequence[np.ndarray]) -> float:
    """How far colours jump from frame to frame beside what they really do."""
    return float(np.sqrt(np.square(np.diff(colours(frames) - colours(true), axis=0)).sum(-1).mean()))


def distance(frames: Sequence[np.ndarray], true: Sequence[np.ndarray]) -> float:
    return float(np.sqrt(np.square(colours(frames) - colours(true)).sum(-1).mean()))


@pytest.mark.parametrize(("count", "seed"), [(16, 0), (16, 1), (40, 2)])
def test_flicker_falls_by_four_fifths(count: int, seed: int) -> None:
    true = moving_camera(count)
    shaken = unsteady(true, seed, flicker=0.06)
    steady, told = finished(Finish(deflicker=True), shaken)
    assert jumps(steady, true) < 0.2 * jumps(shaken, true)
    # What it says that it has added is what the frames have more of.
    added = told["deflicker"]["lightness_added"]
    assert np.allclose(added, (colours(steady) - colours(shaken))[:, 0], atol=0.6)
    assert told["deflicker"]["frames_changed"] == sum(a is not b for a, b in zip(steady, shaken, strict=True))


@pytest.mark.parametrize("flicker", [0.0, 0.06])
def test_drift_and_flicker_fall_by_four_fifths_and_detail_stays(flicker: float) -> None:
    true = moving_camera(24)
    shaken = unsteady(true, 3, flicker, DRIFT)
    mended, _ = finished(Finish(deflicker=flicker > 0, match_colours=True), shaken, true[0])
    assert distance(mended, true) < 0.2 * distance(shaken, true)
    assert not flicker or jumps(mended, true) < 0.2 * jumps(shaken, true)
    assert detail(mended) == pytest.approx(detail(true), rel=0.02)


def test_a_drift_goes_when_the_photograph_has_left_the_frame() -> None:
    """The camera is past its first view by then."""
    true = moving_camera(48, pan=4, zoom=0)
    mended, _ = finished(Finish(match_colours=True), unsteady(true, 0, drift=DRIFT), true[0])
    assert distance(mended[-8:], true[-8:]) < 0.3 * np.linalg.norm(DRIFT)


def test_a_steady_clip_passes_as_it_is() -> None:
    """Whatever moves in it: the very same arrays, which nobody has written to."""
    for true in (moving_camera(30), moving_camera(20, pan=6), passing_object(20, 4)):
        before = [frame.copy() for frame in true]
        same, told = finished(Finish(deflicker=True, match_colours=True), true, true[0])
        assert all(one is other for one, other in zip(same, true, strict=True))
        assert all(np.array_equal(*pair) for pair in zip(before, true, strict=True))
        assert [told[name]["frames_changed"] for name in ("deflicker", "match_colours")] == [0, 0]


def test_a_slow_change_of_light_is_no_flicker() -> None:
    dusk = unsteady(moving_camera(24), 0, drift=(-20, 2, -6))
    same, _ = finished(Finish(deflicker=True), dusk)
    assert all(one is other for one, other in zip(same, dusk, strict=True))


def test_a_cut_is_no_flicker() -> None:
    there = [np.asarray(Image.fromarray(frame).transpose(Image.Transpose.ROTATE_180)) for frame in moving_camera(14)]
    cut = [*moving_camera(14), *(255 - frame // 2 for frame in there)]
    steady, _ = finished(Finish(deflicker=True), cut)
    assert np.abs(colours(steady) - colours(cut)).max() < 1


def test_what_is_to_move_is_not_matched() -> None:
    """A part that is meant to turn red leaves the rest as it is, once it is known to be that part."""
    true = moving_camera(8, pan=0, zoom=0)
    still = np.ones((30, 40), bool)
    still[:, 14:] = False
    red = [frame.copy() for frame in true]
    for index, frame in enumerate(red):
        frame[:, 60:, 0] = np.minimum(255, frame[:, 60:, 0] + 9.0 * index).astype(np.uint8)
    blind, knowing = (list(MatchColours(true[0], mask).frames(iter(red))) for mask in (None, still))
    assert all(one is other for one, other in zip(knowing, red, strict=True))
    assert not all(one is other for one, other in zip(blind, red, strict=True))


@given(st.lists(st.floats(-9, 9), min_size=2, max_size=2), st.integers(1, 30), st.data())
def test_a_trend_is_found_to_be_itself(line: list[float], count: int, data: st.DataObject) -> None:
    rows = np.arange(count)[:, None] * np.array(line) + np.array(line[::-1])
    place = data.draw(st.integers(0, count - 1))
    assert np.allclose(trend_at(rows, place, 12), rows[place], atol=1e-6)


@pytest.mark.parametrize("times", [2, 4])
@pytest.mark.parametrize("pan", [0.4, 1.7, 6.0])
def test_frames_between_are_closer_to_the_true_ones_than_blending(times: int, pan: float) -> None:
    _closer_than_blending(moving_camera(9, pan=pan), times, least_db=38)


@pytest.mark.parametrize("times", [2, 4])
def test_what_is_hidden_in_one_frame_is_taken_from_the_other(times: int) -> None:
    _closer_than_blending(passing_object(9, 4), times, least_db=36)


def _closer_than_blending(true: Frames, times: int, least_db: float) -> None:
    made, told = finished(Finish(interpolate=times), true[::times])
    assert len(made) == len(true)
    assert all(one is other for one, other in zip(made[::times], true[::times], strict=True))
    assert told["interpolate"]["frames_made"] == len(true) - len(true[::times])
    for index in set(range(len(true))) - set(range(0, len(true), times)):
        place = index % times / times
        blended = np.rint((1 - place) * true[index - index % times] + place * true[index - index % times + times])
        found = psnr(made[index], true[index])
        assert found > least_db
        assert found > psnr(blended, true[index]) + 2


def test_over_a_cut_no_frame_is_mixed() -> None:
    one, random = moving_camera(1)[0], np.random.default_rng(0)
    other = random.integers(0, 256, one.shape, np.uint8)
    made, told = finished(Finish(interpolate=4), [one, other])
    assert [frame is one for frame in made] == [True, True, False, False, False]
    assert all(frame is other for frame in made[2:])
    assert told["interpolate"]["cuts_found"] == 1


def test_what_stands_still_is_not_made_anew() -> None:
    frame = moving_camera(1)[0]
    made, _ = finished(Finish(interpolate=4), [frame, frame.copy(), frame.copy()])
    assert len(made) == 9
    assert all(np.array_equal(one, frame) for one in made)


def test_upscaled_is_twice_as_large_and_of_the_same_colours() -> None:
    frames = moving_camera(3)
    large, _ = finished(Finish(upscale=2), frames)
    for one, other in zip(large, frames, strict=True):
        assert one.shape == (240, 320, 3)
        assert np.abs(colours([one]) - colours([other])).max() < 0.1
        back = one.reshape(120, 2, 160, 2, 3).mean((1, 3))
        assert psnr(back, other) > 40
    flat = np.full((10, 12, 3), (7, 130, 250), np.uint8)
    assert np.array_equal(finished(Finish(upscale=2), [flat])[0][0], np.full((20, 24, 3), (7, 130, 250)))


@settings(max_examples=12, deadline=None)
@example(Finish(interpolate=2), 1, (16, 8))
@given(
    st.builds(Finish, st.booleans(), st.booleans(), st.sampled_from(INTERPOLATIONS), st.sampled_from((1, 2))),
    st.integers(1, 5),
    st.sampled_from([(16, 8), (8, 24), (50, 34)]),
)
def test_any_finish_gives_as_many_frames_as_it_says(finish: Finish, count: int, size: tuple[int, int]) -> None:
    request = GenerationRequest("nano", "", *size, count, 8, 1, 1.0, 0, finish=finish)
    frames = unsteady(moving_camera(count, *size), 1, 0.1)
    made, told = finished(finish, frames)
    assert len(made) == request.video_frames
    assert {frame.shape for frame in made} == {(*request.video_size[::-1], 3)}
    assert {frame.dtype for frame in made} == {np.dtype(np.uint8)}
    assert bool(told) == (finish != Finish())
    # Between the frames of one there is nothing to make.
    takes_time = replace(finish, interpolate=1) != Finish() if count == 1 else finish != Finish()
    assert takes_time == (finishing_cost(request).seconds > 0)


def test_frames_are_handed_on_as_they_come() -> None:
    """However long the clip: only those that the stages look ahead are taken before the first comes out, and no more
    are held than they say."""
    taken = 0

    def decoded(count: int) -> Iterator[Frame]:
        nonlocal taken
        for frame in unsteady(moving_camera(count, 64, 48), 1, 0.05):
            taken += 1
            yield frame

    for count in (30, 60):
        finishing, taken = Finishing(Finish(True, True, 2, 2)), 0
        ahead = sum(stage.look_ahead for stage in finishing.stages)
        made = 0
        for _ in finishing.frames(decoded(count)):
            made += 1
            assert taken <= (made - 1) // 2 + ahead + 1
        assert made == 2 * count - 1


def test_memory_does_not_grow_with_the_clip() -> None:
    import tracemalloc

    def peak(count: int) -> int:
        clip = unsteady(moving_camera(8, 96, 64), 1, 0.05)
        finishing = Finishing(Finish(True, True, 2, 2))
        tracemalloc.start()
        for _ in finishing.frames(clip[index % 8].copy() for index in range(count)):
            pass
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    short, long = peak(24), peak(64)
    assert long < short + 5 * 96 * 64 * 3, "five frames, where a clip that is kept would hold forty more"


def test_its_memory_is_what_was_foretold_at_most() -> None:
    import tracemalloc

    frames = unsteady(moving_camera(20, 256, 192), 1, 0.05)
    for finish in (Finish(deflicker=True), Finish(True, True, 2, 2)):
        request = GenerationRequest("nano", "", 256, 192, len(frames), 8, 1, 1.0, 0, finish=finish)
        tracemalloc.start()
        for _ in Finishing(finish).frames(frame.copy() for frame in frames):
            pass
        held = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        # The small copies do not grow with the frame: of those there are some megabytes.
        assert held < 1.2 * finishing_cost(request).size_bytes + 8 * 2**20


def test_a_stage_is_broken_off_at_any_frame() -> None:
    """Cancelling closes the iterators from the end; nothing is decoded after that."""
    taken = []

    def decoded() -> Iterator[Frame]:
        for frame in moving_camera(30, 64, 48):
            taken.append(frame)
            if len(taken) == 20:
                raise KeyboardInterrupt
            yield frame

    stage = Deflicker()
    with pytest.raises(KeyboardInterrupt):
        list(stage.frames(decoded()))
    assert len(taken) == 20


def test_steadying_is_offered_by_measure_and_not_twice(tmp_path: Path) -> None:
    assert offers(0.006, 3.0, Finish()) == {}
    both = offers(0.015, 4.6, Finish())
    assert list(both) == ["deflicker", "match_colours"]
    assert [one.params["times"] for one in both.values()] == ["3.0", "2.0"]
    assert list(offers(0.015, 4.6, Finish(deflicker=True))) == ["match_colours"]
    assert offers_for(tmp_path, Finish()) == {}
    for broken in ("", "[]", "{}", '{"flicker": 1}', '{"flicker": "x", "drift": null}'):
        (tmp_path / REPORT).write_text(broken)
        assert offers_for(tmp_path, Finish()) == {}
    (tmp_path / REPORT).write_text('{"flicker": 0.02, "drift": 0}')
    assert list(offers_for(tmp_path, Finish())) == ["deflicker"]
