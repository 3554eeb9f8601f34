"""The page without a browser: pictures that come in, and what a reload brings back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fastapi.testclient import TestClient
from jobs_support import settings_in, small_picture, values
from page_support import is_skip, scripted_service, uploaded_picture
from PIL import Image

from i2v.jobs.service import JobService
from i2v.ui.create import form
from i2v.ui.page import _Page
from i2v.ui.serve import build_app
from i2v.video.picture import load_picture


@pytest.fixture
def service(tmp_path: Path) -> Iterator[JobService]:
    with scripted_service(tmp_path) as running:
        yield running


def test_a_picture_that_browsers_cannot_show_is_shown_as_it_was_read(service: JobService, tmp_path: Path) -> None:
    page = _Page(service, *settings_in(tmp_path))
    sent = uploaded_picture(tmp_path, "shown")
    shown = page._pictured(None, "en", "auto", "small", {"path": str(sent)})
    assert (shown[0], is_skip(shown[1])) == ("", True)
    for suffix in ("tif", "jp2", "tga", "ppm"):
        strange = sent.with_name(f"{'长' * 60}.{suffix}")
        load_picture(sent).save(strange)
        told, picture, *size = page._pictured(None, "en", "auto", "small", {"path": str(strange)})
        assert told == ""  # and what was said of an earlier picture goes
        assert size == shown[2:]
        with Image.open(picture) as copy:
            assert copy.format == "PNG"
            np.testing.assert_array_equal(np.asarray(copy), np.asarray(load_picture(strange)))


def test_a_file_that_is_no_picture_leaves_the_good_one(service: JobService, tmp_path: Path) -> None:
    page = _Page(service, *settings_in(tmp_path))
    good = uploaded_picture(tmp_path, "good")
    bad = good.with_name("notes.jpg")
    bad.write_text("not a picture")
    ticket = page._ticket(None, good)
    told, picture, *size = page._pictured(None, "en", "auto", "small", {"path": str(bad)}, ticket)
    assert ("notes.jpg" in told, picture) == (True, str(good))
    assert all(is_skip(update) for update in size)
    assert page._pictured(None, "en", "auto", "small", {"path": str(bad)})[1] is None


def test_a_reload_brings_back_what_was_filled_in_and_not_sent(service: JobService, tmp_path: Path) -> None:
    page = _Page(service, *settings_in(tmp_path))
    sent = service.submit(values("waves"), small_picture(tmp_path))
    picture = uploaded_picture(tmp_path, "kept")
    kept = {"ticket": page._ticket(None, picture), "values": {"prompt": "the tide comes in", "seed": "7", "steps": 9}}
    _, *restored, ticket = page._restored(None, sent, "en", None, kept)[len(page._job_outputs) - 1 :]
    assert (restored[0], ticket) == (str(picture), kept["ticket"])
    found = dict(zip(form.FIELDS, restored[1:], strict=True))
    assert [found[name] for name in ("prompt", "seed", "steps")] == ["the tide comes in", "7", 9]
    assert is_skip(found["model"])
    other = SimpleNamespace(username="ann", client=None)  # at the same browser
    assert all(is_skip(update) for update in page._restored(other, "", "en", None, kept)[len(page._job_outputs) : -1])


def test_another_model_and_back_brings_the_numbers_back(service: JobService, tmp_path: Path) -> None:
    page = _Page(service, *settings_in(tmp_path))
    kept = {"at": "nano auto", "by": {}}
    kept, *there = page._numbers(kept, "auto", "i2vgen-xl", None, "16:9", "standard", 680, 384, 20, 8, 9, 7.5)
    assert there[0] / there[1] == pytest.approx(16 / 9, rel=0.02)  # the shape is kept, within the other's own size
    assert there[4] != 9
    kept, *back = page._numbers(kept, "auto", "nano", None, "16:9", "standard", *there)
    assert back == [680, 384, 20, 8, 9, 7.5]
    assert set(kept["by"]) == {"nano auto", "i2vgen-xl auto"}


def test_a_client_is_told_of_a_name_that_begins_with_a_dot(service: JobService, tmp_path: Path) -> None:
    """The page sends such a file under another name; a client hears one sentence, and not Gradio's own."""
    client = TestClient(build_app(service, *settings_in(tmp_path), None), base_url="http://127.0.0.1")
    for name in ("..hidden", ".jpg"):
        (path,) = client.post("/gradio_api/upload", files={"files": (name, b"x")}).json()
        sent = {"data": [{"path": path, "meta": {"_type": "gradio.FileData"}}, {}]}
        answer = client.post("/gradio_api/call/submit", json=sent)
        assert (answer.status_code, answer.json()["title"]) == (400, "ui.hidden_name")
        assert name in answer.json()["error"]
