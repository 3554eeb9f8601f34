"""The evaluation on photographs: what it asks, what a row says, that it goes on where it was cut off, and its table."""

import json

import numpy as np
import pytest
import torch

from i2v.families.nano.view import View
from tests.nano.pictures import textured
from tools.train_nano import evaluate, labels, photo_rows, photo_table, questions, sheets
from tools.train_nano.clips import Settings

SETTINGS = Settings(frames=16, fps=4)
STANDING = {f"camera_{name}": 0.0 for name in ("grow", "x", "y", "turn")}
SQUARE = ((0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75))


def photograph(scene, *kinds, lines=()):
    regions = tuple(labels.Region(kind, SQUARE, None, 0.0) for kind in kinds)
    return labels.Photograph("p", "GPL-2+", f"{scene}.jpg", scene * 64, scene, "held_out", regions, lines)


def photo(*kinds, lines=()):
    pixels = np.rint(textured() * 255).astype(np.uint8)
    return photo_rows.Photo(photograph("a", *kinds, lines=lines), pixels)


def question(made, motion="water", part="living"):
    return questions.Question(part, "a", motion, made, 0, "the water flows")


# --- what is asked ---


@pytest.fixture(scope="module")
def held_out():
    return [label for label in labels.load() if label.held_out]


def test_every_photograph_has_its_turn_and_what_is_asked_depends_on_no_result(held_out):
    asked = list(questions.questions(held_out, 1, every=False))
    assert asked == list(questions.questions(held_out[::-1], 1, every=False))
    camera = [one.scene for one in asked if (one.part, one.made) == ("camera", questions.FOUND)]
    assert len(camera) == 2 * len(held_out)
    living = [one for one in asked if (one.part, one.made) == ("living", questions.BRUSHED)]
    able = {
        label.scene
        for label in held_out
        if label.kinds & {kind for kinds in questions.MOVED.values() for kind in kinds}
    }
    assert {one.scene for one in living} == able
    assert {one.motion for one in living} == set(questions.MOVED)


def test_a_living_motion_is_asked_in_the_same_words_however_it_is_made(held_out):
    asked = [one for one in questions.questions(held_out, 1, every=True) if one.part == "living"]
    for made in questions.LIVING_MADE:
        same = [(one.scene, one.motion, one.prompt) for one in asked if one.made == made]
        assert same == [(one.scene, one.motion, one.prompt) for one in asked if one.made == questions.BRUSHED]
    assert len({one.key for one in asked}) == len(asked)


def test_sky_and_clouds_are_one_sheet(held_out):
    either = [label for label in held_out if label.kinds & {"sky", "clouds"}]
    asked = [one for one in questions.questions(held_out, 1, every=True) if one.motion == "clouds"]
    assert len(asked) == len(either) * len(questions.LIVING_MADE)


# --- a row ---


def test_the_warp_by_hand_moves_the_drawn_region_and_a_frozen_frame_does_not():
    studio = photo_rows.Studio(None, None, SETTINGS)
    line = ((0.1, 0.1), (0.9, 0.12))
    moved, made = studio.row(question(questions.BY_HAND), photo("water", lines=(line,)))
    assert moved["ratio"] > photo_table.RATIO
    assert moved["filled"] > photo_table.FILLED
    assert moved["outside_95"] < photo_table.STRAYED
    assert moved["bend"] < photo_table.BEND
    assert moved["loop"] <= photo_table.LOOP
    assert made.frames.shape == (16, 192, 192, 3)
    frozen, _ = studio.row(question(questions.FROZEN), photo("water"))
    assert frozen["ratio"] < 0.01
    assert (frozen["filled"], frozen["first_db"], frozen["bend"]) == (0, 99.0, None)


def test_what_covers_nothing_or_everything_is_not_asked_for():
    studio = photo_rows.Studio(None, None, SETTINGS)
    assert studio.row(question(questions.BY_HAND), photo("rigid")) is None
    whole = labels.Region("water", ((0, 0), (1, 0), (1, 1), (0, 1)), None, 0.0)
    full = photo_rows.Photo(labels.Photograph("p", "", "", "a", "a", "held_out", (whole,), ()), photo().pixels)
    assert studio.row(question(questions.BY_HAND), full) is None


def test_a_line_is_followed_as_the_first_frame_shows_it():
    inner = View(torch.tensor(0.5), torch.zeros(2))
    start, end = photo_rows._in_view(((0.3, 0.5), (0.6, 0.55)), inner, (100, 200))
    assert start == pytest.approx((0.1, 0.5))
    assert end == pytest.approx((0.7, 0.6))
    assert photo_rows._in_view(((0.0, 0.1), (0.2, 0.1)), inner, (100, 200)) is None
    aside = View(torch.tensor(0.5), torch.tensor([0.0, -0.25]))
    start, _ = photo_rows._in_view(((0.3, 0.25), (0.7, 0.25)), aside, (200, 100))
    assert start[1] == pytest.approx(0.25)


# --- a run ---


def test_an_evaluation_that_was_cut_off_goes_on(tmp_path, monkeypatch, capsys):
    made = []

    class Studio:
        def __init__(self, *_):
            pass

        def row(self, question, photo):
            made.append(question.key)
            if len(made) == 4:
                raise KeyboardInterrupt
            names = ("part", "scene", "motion", "made", "seed")
            return {name: getattr(question, name) for name in names} | STANDING | {"took": 1.0, "ratio": 7.0}, None

    monkeypatch.setattr(evaluate, "Studio", Studio)
    monkeypatch.setattr(evaluate, "Maker", lambda folder: None)
    photos = [photo_rows.Photo(photograph(scene, "water", "sky"), photo().pixels) for scene in "abc"]
    monkeypatch.setattr(evaluate, "held_out", lambda data, side: photos)
    rows = tmp_path / "rows.jsonl"
    command = [
        "--data",
        ".",
        "--model",
        ".",
        "--rows",
        str(rows),
        "--seeds",
        "1",
        "--only",
        "living",
        "--made",
        "brushed,found",
    ]
    with pytest.raises(KeyboardInterrupt):
        evaluate.main(command)
    assert len(rows.read_text().splitlines()) == 3
    evaluate.main(command)
    written = [json.loads(line) for line in rows.read_text().splitlines()]
    assert len(written) == 6
    assert len({(row["scene"], row["made"]) for row in written}) == 6
    assert len(made) == 7  # the one that was cut off is made again, no other
    capsys.readouterr()
    evaluate.main([*command, "--table"])
    assert len(made) == 7
    assert "100% (3 of 3)" in capsys.readouterr().out


# --- the table ---


def row(made, **numbers):
    return {"part": "living", "scene": "a", "motion": "water", "made": made, "seed": 0} | STANDING | numbers


def cells(lines, what):
    (line,) = [line for line in lines if line.startswith(f"| {what}")]
    return [cell.strip() for cell in line.strip("|").split("|")[2:]]


def test_each_way_of_making_a_clip_has_its_column():
    rows = [row("brushed", ratio=9.0), row("brushed", ratio=4.9), row("brushed", ratio=None), row("found", ratio=5.0)]
    lines = photo_table.lines_of(rows)
    assert cells(lines, "moves 5 x") == ["50% (1 of 2)", "100% (1 of 1)", "-", "-", "-"]
    assert cells(lines, "clips")[:2] == ["3", "1"]


def test_a_camera_counts_as_asked_only_in_its_own_direction():
    def panned(x):
        return row(
            "found", part="camera", motion="pan_left", camera_grow=0.1, camera_x=x, camera_y=0.0, camera_turn=0.0
        )

    lines = photo_table.lines_of([panned(0.9), panned(-0.9)])
    assert cells(lines, "as asked: all")[0] == "50% (1 of 2)"


# --- the sheets ---


def test_a_sheet_shows_where_a_clip_changed_and_pages_hold_all(tmp_path):
    frames = np.zeros((4, 60, 90, 3), np.uint8)
    frames[2, :30] = 85
    strip = sheets.strip(frames, None, np.ones((60, 90)), "a lake")
    assert strip.shape == (sheets.LABEL + 200, 5 * sheets.WIDTH, 3)
    change = strip[sheets.LABEL :, 2 * sheets.WIDTH : 3 * sheets.WIDTH]
    assert change[:95].min() > 250 > 5 > change[105:].max()
    for number in range(sheets.ROWS + 1):
        sheets.Image.fromarray(strip).save(tmp_path / f"seed0-{number:02d}.png")
    assert [path.name for path in sheets.pages(tmp_path, "seed0")] == ["page-seed0-1.png", "page-seed0-2.png"]
