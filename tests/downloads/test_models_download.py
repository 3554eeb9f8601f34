"""`python -m i2v models download` and `downloads`: here, broken off, and by the app that runs; and who may ask it."""

from __future__ import annotations

import json
import signal
from collections import namedtuple
from pathlib import Path

import pytest
from cli_support import i2v, popen
from page_server import page_server

from i2v.cli.exits import Exit
from i2v.downloads import space
from i2v.jobs.service import JobService
from i2v.messages import UserError
from i2v.ui.gate.access import ADMIN, GUEST, LOCAL
from i2v.ui.gate.own import OwnJobs
from i2v.ui.gate.own_downloads import OwnDownloads
from tests.downloads.support import NAME, STOP, came_once, come_so_far, part_bytes, size, whole
from tests.hub_server import Hub
from tests.jobs_support import SCRIPTED, settings_in, wait_until

pytestmark = pytest.mark.drives


def words(folder: Path, *more: str) -> list[str]:
    return ["models", *more, "--models", str(folder / "models"), "--out", str(folder / "outputs"), "--cpu"]


def test_a_model_comes_here(hub: Hub, tmp_path: Path) -> None:
    done = i2v(tmp_path, *words(tmp_path, "download", NAME, "--json"), HF_ENDPOINT=hub.url)
    assert done.returncode == Exit.DONE, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert (told[-1]["state"], told[-1]["done_bytes"]) == ("done", size(tmp_path))
    assert "to download into" in done.stderr
    assert whole(tmp_path, hub)
    served = hub.served_bytes
    again = i2v(tmp_path, *words(tmp_path, "download", NAME), HF_ENDPOINT=hub.url)
    assert (again.returncode, hub.served_bytes) == (Exit.DONE, served)
    assert "on this computer" in again.stderr


def test_ctrl_c_pauses_and_the_same_command_goes_on(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    hub.file_stalls_after = STOP
    process = popen(tmp_path, *words(tmp_path, "download", NAME))
    come_so_far(tmp_path)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == Exit.CANCELLED, said
    assert "Paused" in said
    listed = i2v(tmp_path, *words(tmp_path, "downloads", "--json"))
    assert [(one["id"], one["state"]) for one in json.loads(listed.stdout)] == [(NAME, "paused")]
    assert NAME in i2v(tmp_path, *words(tmp_path, "downloads")).stdout
    hub.file_stalls_after = None
    done = i2v(tmp_path, *words(tmp_path, "download", NAME))
    assert done.returncode == Exit.DONE, done.stderr
    assert whole(tmp_path, hub)
    assert came_once(hub, size(tmp_path))


def test_what_does_not_come_is_told(hub: Hub, tmp_path: Path) -> None:
    hub.file_status = 404
    failed = i2v(tmp_path, *words(tmp_path, "download", NAME), HF_ENDPOINT=hub.url)
    assert failed.returncode == Exit.FAILED
    assert hub.url.removeprefix("http://") in failed.stderr
    nameless = i2v(tmp_path, *words(tmp_path, "download"))
    assert nameless.returncode == Exit.BAD_INPUT


def test_a_running_app_downloads_it(hub: Hub, tmp_path: Path) -> None:
    with page_server(tmp_path, environ={"HF_ENDPOINT": hub.url}) as server:
        hub.file_piece_seconds = 1.0
        process = popen(tmp_path, *words(tmp_path, "download", NAME, "--json"))
        wait_until(lambda: part_bytes(tmp_path))
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert process.returncode == Exit.CANCELLED, said
        assert server.url in said
        assert "goes on" in said

        def listed() -> list[dict]:
            return json.loads(i2v(tmp_path, *words(tmp_path, "downloads", "--json")).stdout)

        (coming,) = listed()
        assert (coming["id"], coming["state"]) == (NAME, "coming")
        assert 0 < coming["done_bytes"] < coming["total_bytes"]
        hub.file_piece_seconds = 0.0
        done = i2v(tmp_path, *words(tmp_path, "download", NAME))
        assert done.returncode == Exit.DONE, done.stderr
    assert whole(tmp_path, hub)


def test_models_are_listed_with_what_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(space.shutil, "disk_usage", lambda _path: usage(2**40, 2**40, 3 * 2**30))
    text = i2v(tmp_path, *words(tmp_path, "list")).stdout
    assert "GiB to download, but only 3.00 GiB free" in text
    told = json.loads(i2v(tmp_path, *words(tmp_path, "list", "--json")).stdout)
    assert {one["free_gib"] for one in told} == {3.0}
    assert space.free_bytes(tmp_path / "not" / "yet" / "there") == 3 * 2**30


def test_a_guest_looks_on(hub: Hub, tmp_path: Path) -> None:
    with JobService(*settings_in(tmp_path, hf_endpoint=hub.url), worker_command=SCRIPTED) as service:
        hub.file_stalls_after = STOP

        def queue(who: str) -> OwnDownloads:
            return OwnDownloads(service.downloads, OwnJobs(service, who))

        def refused(act: str, who: str, name: str) -> str:
            with pytest.raises(UserError) as told:
                getattr(queue(who), act)(name)
            return told.value.message.id

        assert refused("add", GUEST, NAME) == "ui.guest_only_looks"
        assert queue("ada").add(NAME).id == NAME
        assert [one.id for one in queue(GUEST).all()] == [NAME]
        for act in ("pause", "resume", "cancel"):
            assert refused(act, GUEST, NAME) == "ui.guest_only_looks"
            assert refused(act, "ada", NAME) == "ui.admin_only"
        assert queue(ADMIN).pause(NAME)
        assert queue(LOCAL).cancel(NAME)
