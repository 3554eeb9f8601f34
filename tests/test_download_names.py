"""Names of saved files."""

from __future__ import annotations

from dataclasses import replace

import pytest

from i2v.ui.download_names import download_name
from tests.planning.support import job

ID = "20261126-101500-abcdef"


@pytest.mark.parametrize(
    ("prompt", "file", "name"),
    [
        ("Waves roll in, under a low sun", "video.mp4", "waves-roll-in-under-a-low-sun-2026-11-26-seed-7.mp4"),
        ("镜头推近，夜幕降临", "video.webm", "镜头推近-夜幕降临-2026-11-26-seed-7.webm"),
        ('../../etc/<b>"x"</b>', "request.json", "etc-b-x-b-2026-11-26-seed-7-request.json"),
        ("🌊", "video.mp4", "2026-11-26-seed-7.mp4"),
        ("word " * 40, "video.mp4", "word-" * 9 + "wor-2026-11-26-seed-7.mp4"),
    ],
)
def test_a_saved_file_says_what_it_is(prompt: str, file: str, name: str) -> None:
    assert download_name(replace(job(), prompt=prompt, seed=7), ID, file) == name
