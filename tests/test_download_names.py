"""Names of saved files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient
from jobs_support import settings_in
from tabs_support import finish, resting_service

from i2v.ui.serve import build_app
from i2v.ui.shown.download_names import download_name
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


def test_the_browsers_own_save_as_says_what_it_is_too(tmp_path: Path) -> None:
    """The menu on a playing video is the browser's: it knows the address, and what the answer calls the file."""
    with resting_service(tmp_path) as service:
        job_id = finish(service, tmp_path, "镜头 zooms in", seed=7)
        folder = service.status(job_id).folder
        app = build_app(service, *settings_in(tmp_path), None)
        client = TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 1))

        def said(path: Path, **headers: str) -> tuple[int, str | None]:
            answer = client.get(f"/gradio_api/file={path}", headers=headers)
            return answer.status_code, answer.headers.get("content-disposition")

        day = f"{job_id[:4]}-{job_id[4:6]}-{job_id[6:8]}"
        name = quote(f"镜头-zooms-in-{day}-seed-7.mp4")
        assert said(folder / "video.mp4") == (200, f"inline; filename*=UTF-8''{name}")
        assert said(folder / "video.mp4", Range="bytes=0-9")[1] == f"inline; filename*=UTF-8''{name}"
        assert (folder / "video.mp4").is_file()
        assert said(folder / "no.mp4") == (403, None)
