"""The ways into the form: example pictures and chips, and what they write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobs_support import settings_in
from PIL import Image

from i2v.jobs.asked.prepare import build_request
from i2v.messages import LOCALES
from i2v.ui.api import uploaded_path
from i2v.ui.create.brush import NOTHING_PAINTED
from i2v.ui.create.examples import CHIPS, EXAMPLES, PICTURES, _chip, _painted, example, with_words
from i2v.ui.texts import text


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_comes_in_by_the_upload_folder_and_can_be_asked_for(name, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    settings, _ = settings_in(tmp_path)
    for locale in LOCALES:
        picture, prompt = example(name, locale)
        path = uploaded_path({"path": picture})
        with Image.open(path) as copy, Image.open(PICTURES / f"{name}.jpg") as shipped:
            assert copy.tobytes() == shipped.tobytes()
        assert build_request({"prompt": prompt, "image": str(path)}, settings).prompt == prompt
    assert example(name, "en")[1] != example(name, "zh-CN")[1]


@pytest.mark.parametrize("name", sorted(path.stem for path in PICTURES.glob("*.png")))
def test_what_moves_in_an_example_is_painted_for_models_that_take_it(name, tmp_path) -> None:
    settings, _ = settings_in(tmp_path)
    region, way = _painted(name, lambda model: True, "nano")
    values = {"prompt": "go", "image": str(PICTURES / f"{name}.jpg"), "region": region, "way": way}
    request = build_request({key: value for key, value in values.items() if value}, settings)
    assert request.region == region
    assert (request.way is not None) == bool(way)
    assert _painted(name, lambda model: False, "nano") == NOTHING_PAINTED


def test_every_picture_that_is_shipped_is_offered() -> None:
    assert sorted(EXAMPLES) == sorted(path.stem for path in PICTURES.glob("*.jpg"))


@pytest.mark.parametrize(
    ("prompt", "locale", "expected"),
    [
        ("", "en", "night falls"),
        ("  \n", "en", "night falls"),
        ("a rose", "en", "a rose, night falls"),
        ("a rose, ", "en", "a rose, night falls"),
        ("A rose. ", "en", "A rose. night falls"),
        ("Night falls over a lake", "en", "Night falls over a lake"),
        ("一朵玫瑰", "zh-CN", "一朵玫瑰，夜幕降临"),
        ("一朵玫瑰，", "zh-CN", "一朵玫瑰，夜幕降临"),
        ("一朵玫瑰。", "zh-CN", "一朵玫瑰。夜幕降临"),
    ],
)
def test_a_chip_adds_its_words(prompt: str, locale: str, expected: str) -> None:
    assert with_words(prompt, text("chip_night_words", locale), locale) == expected


@pytest.mark.parametrize(
    ("chip", "prompt", "expected"),
    [
        ("zoom_out", "a rose, slow zoom in", "a rose, slow zoom out"),
        ("zoom_in", "Slow Zoom Out. A rose", "slow zoom in. A rose"),
        ("pan_right", "the camera pans left slowly, night falls", "the camera pans right slowly, night falls"),
        ("zoom_in", "slow zoom out, a rose, slow zoom in", "a rose, slow zoom in"),
        ("zoom_in", "a rose", "a rose, slow zoom in"),
        ("zoom_in", None, "slow zoom in"),
    ],
)
def test_a_chip_takes_the_place_of_its_opposite(chip: str, prompt: str | None, expected: str) -> None:
    assert _chip(chip)("en", prompt) == expected


@given(st.text(max_size=40), st.lists(st.sampled_from(CHIPS), max_size=6), st.sampled_from(LOCALES))
def test_chips_say_each_thing_once_and_keep_what_was_written(prompt: str, chips: list[str], locale: str) -> None:
    written = prompt
    for chip in chips:
        written = with_words(written, text(f"chip_{chip}_words", locale), locale)
    assert written.startswith(prompt.rstrip().rstrip(",，、;；").rstrip())
    for chip in chips:
        words = text(f"chip_{chip}_words", locale)
        assert written.casefold().count(words.casefold()) == max(1, prompt.casefold().count(words.casefold()))
