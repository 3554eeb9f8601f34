"""A video gives its settings and its picture back, and nothing else gets in by it."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from jobs_support import settings_in
from PIL import Image

from i2v.messages import UserError
from i2v.request import GenerationRequest, PlanOptions, first_image
from i2v.settings.settings import Settings
from i2v.ui.create.form import FIELDS
from i2v.ui.create.restore import refilled, restored_from, same_again
from i2v.ui.shown import panels
from tests.video_support import moving_frames, write_video

REQUEST = GenerationRequest(
    "nano", "waves 海浪 <b>", 64, 64, 8, 12, 6, 1.5, 123456, negative_prompt="", inputs=first_image("input.png"),
    fit="pad", options=PlanOptions(precision="float32", chunk_frames=0, decode_frames=2),
)  # fmt: skip
FRAMES = moving_frames(3, 64, 64)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path)[0]


def test_all_that_a_video_was_asked_for_comes_back(tmp_path: Path, settings: Settings) -> None:
    video = write_video(tmp_path / "v.mp4", FRAMES, request=REQUEST.to_json(), plan={}, healed=[])
    restored = restored_from(video, settings)
    values = dict(zip(FIELDS, same_again(restored.request), strict=True))
    expected = {
        "prompt": REQUEST.prompt, "negative": "", "model": "nano", "width": 64, "height": 64, "frames": 8, "fps": 12,
        "steps": 6, "guidance": 1.5, "seed": "123456", "fit": "pad", "precision": "float32", "chunk_frames": "0",
        "decode_frames": "2", "cfg": "auto", "preset": "auto",
    }  # fmt: skip
    assert {name: values[name] for name in expected} == expected
    with Image.open(restored.picture) as still:
        errors = [np.abs(np.asarray(still, float) - frame).mean() for frame in FRAMES]
    assert int(np.argmin(errors)) == 0


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"request": None},
        {"request": "<script>alert(1)</script>"},
        {"request": ["x"]},
        {"request": {"prompt": "no more than that"}},
        {"request": {**REQUEST.to_json(), "options": "<b>"}},
        {"request": {**REQUEST.to_json(), "options": {"preset": ["x"]}}},
        {"request": {**REQUEST.to_json(), "prompt": {"html": "<b>"}}},
        {"request": {**REQUEST.to_json(), "width": "<b>"}},
        {"request": {**REQUEST.to_json(), "width": 10**9}},
        {"request": {**REQUEST.to_json(), "seed": "<b>"}},
    ],
)
def test_what_was_not_asked_for_here_is_refused_in_words(tmp_path: Path, settings: Settings, told: dict) -> None:
    video = write_video(tmp_path / "v.mp4", FRAMES, **told)
    with pytest.raises(UserError) as refused:
        restored_from(video, settings)
    assert refused.value.message.render("en")
    assert not (tmp_path / "first-frame.png").exists()


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", asked)
    monkeypatch.setattr(socket, "getaddrinfo", asked)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    "model", ["/home/somebody/models/mine", "nobody/nothing", "gone", "../../etc/passwd", "<img src=x onerror=x>"]
)
def test_of_a_model_that_is_not_here_all_else_comes_back(tmp_path: Path, settings: Settings, model: str) -> None:
    made = replace(REQUEST, model=model, num_inference_steps=7)
    video = write_video(tmp_path / "v.mp4", FRAMES, request=made.to_json())
    restored = restored_from(video, settings, "nano")
    assert replace(restored.request, inputs=first_image("input.png")) == replace(made, model="nano")
    assert not restored.model_is_its_own
    assert restored.picture is not None
    assert [note.id for note in restored.notes] == ["ui.restored_other_model"]
    assert model in restored.notes[0].render("en")
    assert "<img" not in panels.problem(restored.notes[0], "en")


def test_what_the_chosen_model_cannot_do_is_left_to_it(tmp_path: Path, settings: Settings) -> None:
    made = replace(REQUEST, model="nobody/nothing", width=4096, height=4100, num_frames=10_000, fps=10)
    video = write_video(tmp_path / "v.mp4", FRAMES, request=made.to_json())
    for chosen in ("nano", "gone since", None):
        request = restored_from(video, settings, chosen).request
        assert (request.prompt, request.seed, request.fps, request.fit) == (made.prompt, made.seed, 10, "pad")
        assert (request.model, request.width < 4096, request.num_frames < 10_000) == ("nano", True, True)


@pytest.mark.usefixtures("no_network")
def test_a_cut_video_is_told_and_gives_back_what_it_holds(tmp_path: Path, settings: Settings) -> None:
    whole = write_video(tmp_path / "v.mp4", FRAMES, request=REQUEST.to_json()).read_bytes()
    pixels = whole.index(b"mdat") + 4
    for length, told in (
        (40, "video.incomplete"),
        (whole.index(b"moov") + 300, "video.incomplete"),
        (pixels, None),
        (pixels + 100, None),
        (len(whole) - 1, None),
    ):
        video = tmp_path / "cut.mp4"
        video.write_bytes(whole[:length])
        if told:
            with pytest.raises(UserError) as refused:
                restored_from(video, settings)
            assert refused.value.message.id == told
            continue
        restored = restored_from(video, settings)
        assert restored.request.prompt == REQUEST.prompt
        expected = "video.incomplete" if restored.picture else "ui.restored_incomplete"
        assert [note.id for note in restored.notes] == [expected]
    assert restored.picture is not None, "all frames but the last are whole"


def test_the_form_keeps_its_model_where_the_videos_is_not_here(tmp_path: Path, settings: Settings) -> None:
    video = write_video(tmp_path / "v.mp4", FRAMES, request=replace(REQUEST, model="nobody/nothing").to_json())
    told, picture, _, _, *fields = refilled(str(video), "en", "nano", settings)
    assert "nobody/nothing" in told
    assert Path(picture).is_file()
    assert "value" not in fields[FIELDS.index("model")]
    assert fields[FIELDS.index("seed")] == "123456"


def test_a_file_that_is_no_video_or_has_no_request_is_told_apart(tmp_path: Path, settings: Settings) -> None:
    page = tmp_path / "page.mp4"
    page.write_text("<html>")
    for video, why in ((page, "video.not_a_video"), (write_video(tmp_path / "v.mp4", FRAMES), "video.no_metadata")):
        with pytest.raises(UserError) as refused:
            restored_from(video, settings)
        assert refused.value.message.id == why
