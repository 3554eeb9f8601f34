"""Trainings on a page with a password: whose they are, who may begin one, and what the endpoints tell."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from page_server import PageServer, page_server
from people import PASSWORD, PATIENCE, Person

from tests.video_support import moving_frames, write_video

pytestmark = pytest.mark.drives

GUESTS = "third"
SMALL = {"model": "nano", "name": "rolling", "steps": 100_000, "width": 64, "height": 64, "frames": 4, "fps": 8}
SMALL |= {"batch": 1, "rank": 2, "captions": {"a.mp4": "it rolls"}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageServer]:
    passwords = {"I2V_PASSWORD": PASSWORD, "I2V_GUEST_PASSWORD": GUESTS}
    with page_server(tmp_path_factory.mktemp("wire"), environ=passwords) as running:
        yield running


def test_a_training_is_its_owners(server: PageServer, tmp_path: Path) -> None:
    clip = tmp_path / "a.mp4"
    write_video(clip, moving_frames(6, 64, 64), fps=8)
    ann = Client(server.url, auth=("ann", PASSWORD), verbose=False)
    for wrong, said in (({**SMALL, "clips": str(tmp_path)}, "on that machine"), ({}, "Choose some files first")):
        with pytest.raises(AppError, match=said):
            ann.predict(None, wrong, api_name="/train")
    job_id = ann.predict([handle_file(clip)], SMALL, api_name="/train")
    deadline = time.monotonic() + PATIENCE
    while not (seen := ann.predict(job_id, api_name="/training"))["losses"]:
        assert ann.predict(job_id, api_name="/status")["error"] is None
        assert time.monotonic() < deadline, seen
        time.sleep(0.2)
    assert (seen["name"], seen["steps"], seen["file"]) == ("rolling", 100_000, None)
    assert seen["step"] == seen["losses"][-1][0] > 0
    (caption,) = server.folder.rglob(".i2v/clips/*/a.txt")
    assert caption.read_text().strip() == "it rolls"

    made = server.folder / "outputs" / "training" / "rolling" / "validation" / "1.mp4"
    made.parent.mkdir(exist_ok=True)
    made.write_bytes(clip.read_bytes())
    bob, guest, owner = Person(server, "bob"), Person(server, "guest", GUESTS), Person(server, "ann")
    for who, status in ((owner, 200), (guest, 200), (bob, 404)):
        assert who.fetch(f"/gradio_api/file={made}")[0] == status
        assert who.fetch(f"/gradio_api/file={caption.with_suffix('.mp4')}")[0] != 200
    assert bob.call("training", job_id).status_code == 500
    assert guest.told("training", job_id)["name"] == "rolling"
    refused = guest.call("train", None, SMALL)
    assert refused.status_code == 500
    assert "guest" in refused.text
    assert guest.call("cancel", job_id).status_code == 500
    assert ann.predict(job_id, api_name="/cancel") is True
