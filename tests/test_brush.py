"""What is painted over the photograph on Create: how it gets into the form, and when it leaves it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from jobs_support import settings_in, values
from page_support import SHAPE, is_skip, scripted_service, uploaded_picture
from PIL import Image

from i2v.families import SPECS
from i2v.jobs.asked.prepare import build_request
from i2v.jobs.service import JobService
from i2v.request import GenerationRequest, first_image
from i2v.ui.create import form
from i2v.ui.create.brush import selected
from i2v.ui.create.cut import thumbnail_of
from i2v.ui.create.restore import restored_from
from i2v.ui.page import _Page
from i2v.video import region
from tests.video_support import moving_frames, write_video


def left_half(width: int = 96, height: int = 64) -> str:
    mask = Image.new("L", (width, height))
    mask.paste(255, (0, 0, width // 2, height))
    return region.written(mask)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[JobService]:
    with scripted_service(tmp_path) as running:
        yield running


def two_colours() -> Image.Image:
    picture = Image.new("RGB", (600, 400), "navy")
    picture.paste("orange", (0, 0, 300, 400))
    return picture


def test_a_click_is_answered_with_what_belongs_together_there() -> None:
    answer = np.asarray(region.read(selected(thumbnail_of(two_colours()), SimpleNamespace(x=0.2, y=0.5)))) / 255
    assert answer.shape == (170, 256)  # of the thumbnail; the page stretches it by that pixel
    assert (answer[:, :120].min(), answer[:, 136:].max()) == pytest.approx((1, 0), abs=0.05)


@pytest.mark.parametrize("place", [{}, {"x": 2, "y": 0.5}, {"x": "0.5", "y": 0.5}, {"x": float("nan"), "y": 0}])
def test_a_click_that_no_page_sends_selects_nothing(place: dict[str, Any]) -> None:
    assert selected(thumbnail_of(two_colours()), SimpleNamespace(**place)) == ""
    assert selected("", SimpleNamespace(x=0.5, y=0.5)) == ""


def test_a_job_gives_its_region_and_direction_back_to_the_form(tmp_path: Path) -> None:
    settings, _ = settings_in(tmp_path)
    request = build_request(values(model="nano", region=left_half(), way="1,3"), settings, to_run=False)
    again = build_request(form.request_values(form.form_values(request), SPECS["nano"]), settings, to_run=False)
    assert replace(again, seed=request.seed) == request
    plain = dict(zip(form.FIELDS, form.form_values(replace(request, region=None, way=None)), strict=True))
    assert (plain["region"], plain["way"]) == ("", "")


def test_a_new_photograph_has_nothing_painted_on_it(service: JobService, tmp_path: Path) -> None:
    page = _Page(service, *settings_in(tmp_path))
    good = uploaded_picture(tmp_path, "painted")
    ticket = page._ticket(None, good)
    assert page._pictured(None, "en", "auto", "nano", {"path": str(good)}, ticket)[-2:] == ["", ""]
    assert page._pictured(None, "en", "auto", "nano", None, ticket)[-2:] == ["", ""]
    bad = good.with_name("notes.jpg")  # the earlier photograph comes back, and what is on it stays
    bad.write_text("not a picture")
    kept = page._pictured(None, "en", "auto", "nano", {"path": str(bad)}, ticket)[-2:]
    assert all(is_skip(update) for update in kept)


def test_a_reload_brings_the_painting_back_with_its_photograph_only(service: JobService, tmp_path: Path) -> None:
    page = _Page(service, *settings_in(tmp_path))
    picture = uploaded_picture(tmp_path, "reloaded")
    painted = {"prompt": "waves", "region": left_half(), "way": "1,0"}
    kept = {"ticket": page._ticket(None, picture), "values": painted}

    def restored() -> dict[str, Any]:
        fields = page._restored(None, "", "en", None, kept)[len(page._job_outputs) + 3 : -1]
        return dict(zip(form.FIELDS, fields, strict=True))

    found = restored()
    assert {name: found[name] for name in painted} == painted
    picture.unlink()  # as uploads go after a day
    found = restored()
    assert (found["prompt"], is_skip(found["region"]), is_skip(found["way"])) == ("waves", True, True)


def test_a_video_gives_its_region_back_as_its_first_frame_shows_it(tmp_path: Path) -> None:
    """Of a wide photograph the middle square was taken, and the first frame is that square."""
    settings, _ = settings_in(tmp_path)
    request = GenerationRequest(
        "nano", "waves", 64, 64, 3, 12, 6, 1.5, 1,
        inputs=first_image("input.png"), region=left_half(128, 64), way=(0.6, 0.8),
    )  # fmt: skip
    video = write_video(tmp_path / "v.mp4", moving_frames(3, 64, 64), request=request.to_json())
    restored = restored_from(video, settings).request
    mask = np.asarray(region.read(restored.region)) / 255
    assert mask.shape[0] == mask.shape[1]
    half = mask.shape[1] // 2
    assert (mask[:, : half - 4].min(), mask[:, half + 4 :].max()) == pytest.approx((1, 0), abs=0.02)
    assert restored.way == (0.6, 0.8)
    outside = replace(request, fit="crop_right", region=left_half(256, 64))
    video = write_video(tmp_path / "w.mp4", moving_frames(3, 64, 64), request=outside.to_json())
    assert restored_from(video, settings).request.region is None  # nothing of it was in the video


def test_the_brush_is_there_for_models_that_take_it(service: JobService, tmp_path: Path) -> None:
    page = _Page(service, *settings_in(tmp_path))
    asked = dict.fromkeys(form.FIELDS) | {"preset": "auto", "width": 64, "height": 64, "frames": 4, "fps": 8}
    for model, takes in (("nano", True), ("i2vgen-xl", False)):
        answered = page.answers.at_once(None, "en", *(asked | {"model": model}).values(), *SHAPE)
        assert answered[-1]["visible"] is takes
