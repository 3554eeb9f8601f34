"""`python -m i2v models pause`, `resume` and `cancel`: by the app that runs, else on the list that the next start takes
up."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from cli_support import i2v
from page_server import page_server

from i2v.cli.downloads import InApp
from i2v.cli.exits import Exit
from i2v.cli.joined import joined_app
from i2v.downloads.list import read_list
from i2v.downloads.service import Downloads
from tests.downloads.support import NAME, REPO, STOP, come_so_far, ended, part, part_bytes, settings_for, whole
from tests.hub_server import Hub
from tests.jobs_support import wait_until

pytestmark = pytest.mark.drives


def asked(folder: Path, *words: str) -> tuple[int, str]:
    """How `models` with these words ends, and what it says."""
    ran = i2v(folder, "models", *words, "--models", str(folder / "models"), "--out", str(folder / "outputs"), "--cpu")
    return ran.returncode, ran.stdout + ran.stderr


def states(folder: Path) -> list[tuple[str, str]]:
    return [(one.id, one.state) for one in read_list(folder / "models")]


@pytest.fixture
def left(hub: Hub, tmp_path: Path) -> Hub:
    """A download that was broken off when its app was closed."""
    hub.file_stalls_after = STOP
    queue = Downloads(settings_for(tmp_path, hub))
    queue.add(NAME)
    come_so_far(tmp_path)
    queue.close()
    hub.file_stalls_after = None
    hub.fetched.clear()
    return hub


def test_without_an_app_the_list_is_changed_and_nothing_comes(left: Hub, tmp_path: Path) -> None:
    assert states(tmp_path) == [(NAME, "waiting")]
    code, said = asked(tmp_path, "pause", NAME)
    assert (code, "paused" in said) == (Exit.DONE, True)
    assert states(tmp_path) == [(NAME, "paused")]
    code, said = asked(tmp_path, "pause", REPO)
    assert (code, "stays as it is" in said) == (Exit.BAD_INPUT, True)
    code, said = asked(tmp_path, "resume", REPO, "--json")
    assert (code, json.loads(said)) == (Exit.DONE, {"id": NAME, "model": NAME, "done": "resume"})
    assert states(tmp_path) == [(NAME, "waiting")]
    assert (part_bytes(tmp_path), left.fetched) == (STOP, [])
    queue = Downloads(settings_for(tmp_path, left), go_on=False, fetches=False)
    assert queue.pause(NAME)
    assert queue.resume(NAME)
    assert "downloads" not in {thread.name for thread in threading.enumerate()}, "nobody waits for it"
    queue.close()
    again = Downloads(settings_for(tmp_path, left))
    assert ended(again) == "done", "the next start takes it up"
    again.close()
    assert whole(tmp_path, left)


def test_without_an_app_what_is_cancelled_is_taken_off_the_disk(left: Hub, tmp_path: Path) -> None:
    assert asked(tmp_path, "cancel", NAME)[0] == Exit.DONE
    assert (states(tmp_path), part(tmp_path)) == ([], None)
    assert not (tmp_path / "models" / NAME).exists()
    assert left.fetched == []
    for words in (("cancel", NAME), ("resume", NAME), ("pause",)):
        assert asked(tmp_path, *words)[0] == Exit.BAD_INPUT


def test_a_list_that_another_program_keeps_is_left_alone(left: Hub, tmp_path: Path) -> None:
    other = Downloads(settings_for(tmp_path, left), go_on=False)
    before = states(tmp_path)
    for action in ("pause", "resume", "cancel"):
        code, said = asked(tmp_path, action, NAME)
        assert (code, "Another program" in said) == (Exit.BAD_INPUT, True)
    assert (states(tmp_path), part_bytes(tmp_path)) == (before, STOP)
    other.close()


def test_the_app_that_runs_is_asked(hub: Hub, tmp_path: Path) -> None:
    hub.file_stalls_after = STOP
    with page_server(tmp_path, environ={"HF_ENDPOINT": hub.url}):
        app = joined_app(settings_for(tmp_path, hub))
        assert app is not None
        InApp(app).add(NAME)
        come_so_far(tmp_path)

        def state() -> str:
            return next((one["state"] for one in json.loads(asked(tmp_path, "downloads", "--json")[1])), "gone")

        assert state() == "coming"
        assert asked(tmp_path, "pause", NAME)[0] == Exit.DONE
        assert state() == "paused"
        assert asked(tmp_path, "pause", NAME)[0] == Exit.BAD_INPUT
        code, said = asked(tmp_path, "resume", NAME)
        assert (code, "goes on where it stopped" in said) == (Exit.DONE, True)
        wait_until(lambda: state() == "coming", 30)
        assert asked(tmp_path, "cancel", REPO)[0] == Exit.DONE
        assert state() == "gone"
        wait_until(lambda: not (tmp_path / "models" / NAME).exists(), 30)
        assert asked(tmp_path, "cancel", NAME)[0] == Exit.BAD_INPUT
