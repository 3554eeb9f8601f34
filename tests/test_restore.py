"""A video gives its settings and its picture back, and nothing else gets in by it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from jobs_support import settings_in
from PIL import Image

from i2v.messages import UserError
from i2v.request import GenerationRequest, PlanOptions
from i2v.settings import Settings
from i2v.ui.form import FIELDS
from i2v.ui.restore import restored_from, same_again
from tests.video_support import moving_frames, write_video

REQUEST = GenerationRequest(
    "nano", "waves 海浪 <b>", 64, 64, 8, 12, 6, 1.5, 123456, negative_prompt="", image_path="input.png", fit="pad",
    options=PlanOptions(precision="float32", chunk_frames=0, decode_frames=2),
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
        {"request": {**REQUEST.to_json(), "model": "<img src=x onerror=alert(1)>"}},
        {"request": {**REQUEST.to_json(), "model": "../../etc/passwd"}},
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


def test_a_file_that_is_no_video_or_has_no_request_is_told_apart(tmp_path: Path, settings: Settings) -> None:
    page = tmp_path / "page.mp4"
    page.write_text("<html>")
    for video, why in ((page, "video.not_a_video"), (write_video(tmp_path / "v.mp4", FRAMES), "video.no_metadata")):
        with pytest.raises(UserError) as refused:
            restored_from(video, settings)
        assert refused.value.message.id == why
