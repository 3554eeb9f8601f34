"""The named endpoints as a real client calls them, on the real app with the bundled model."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from page_server import PageServer, page_server
from photos import photograph

from i2v.video.metadata import probe_video, read_metadata

SMALL = {"prompt": "a cheetah breathes", "width": 64, "height": 64, "frames": 4, "steps": 3, "seed": 7}
FINAL = ("done", "failed", "cancelled")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageServer]:
    with page_server(tmp_path_factory.mktemp("client")) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: PageServer, tmp_path_factory: pytest.TempPathFactory) -> Client:
    return Client(server.url, verbose=False, download_files=tmp_path_factory.mktemp("downloads"))


def final_status(client: Client, job_id: str) -> dict:
    deadline = time.monotonic() + 240
    while True:
        status = client.predict(job_id, api_name="/status")
        if status["state"] in FINAL:
            return status
        assert time.monotonic() < deadline, status
        time.sleep(0.1)


def test_from_picture_to_video(client: Client, server: PageServer) -> None:
    job_id = client.predict(handle_file(photograph()), SMALL, api_name="/submit")
    status = final_status(client, job_id)
    assert status["error"] is None
    assert {"id", "state", "phase", "step", "steps", "seconds_left", "error", "worker_pid"} <= status.keys()
    assert (status["id"], status["state"]) == (job_id, "done")
    assert psutil.pid_exists(status["worker_pid"])
    # Linux lists the libraries of a process: torch's are the worker's alone.
    maps = {pid: Path(f"/proc/{pid}/maps").read_text() for pid in (server.process.pid, status["worker_pid"])}
    assert [("/torch/" in text) for text in maps.values()] == [False, True]
    video = Path(client.predict(job_id, api_name="/result"))
    info = probe_video(video)
    assert (info.width, info.height, info.frames) == (64, 64, 4)
    assert read_metadata(video)["request"]["prompt"] == SMALL["prompt"]
    assert client.predict(job_id, api_name="/cancel") is False


def test_cancel_ends_a_run(client: Client) -> None:
    job_id = client.predict(handle_file(photograph()), {**SMALL, "steps": 400}, api_name="/submit")
    with pytest.raises(AppError, match=job_id):
        client.predict(job_id, api_name="/result")
    assert client.predict(job_id, api_name="/cancel") is True
    assert final_status(client, job_id)["state"] == "cancelled"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "prompt|sentence|text"),
        ({**SMALL, "steps": 0}, "steps.*0"),
        ({**SMALL, "width": "NaN"}, "width.*NaN"),
        ({**SMALL, "height": 100.5}, "height.*100.5"),
        ({**SMALL, "model": "nobody/knows"}, "nobody/knows"),
        ({**SMALL, "stepz": 4}, "stepz.*steps"),
        (["a", "list"], "object"),
        ("words", "object"),
    ],
)
def test_bad_settings_are_told_in_a_sentence(client: Client, settings: object, said: str) -> None:
    with pytest.raises(AppError, match=re.compile(said, re.DOTALL)) as caught:
        client.predict(handle_file(photograph()), settings, api_name="/submit")
    assert "Traceback" not in str(caught.value)


def test_bad_pictures_are_told_in_a_sentence(client: Client, tmp_path: Path) -> None:
    words = tmp_path / "notes.jpg"
    words.write_text("not a picture")
    with pytest.raises(AppError, match=r"notes\.jpg"):
        client.predict(handle_file(words), SMALL, api_name="/submit")
    with pytest.raises(AppError, match="picture"):
        client.predict(None, SMALL, api_name="/submit")


@pytest.mark.parametrize("endpoint", ["status", "result", "cancel"])
def test_unknown_job(client: Client, endpoint: str) -> None:
    with pytest.raises(AppError, match="20200101-000000-abcdef"):
        client.predict("20200101-000000-abcdef", api_name=f"/{endpoint}")


def test_no_picture_of_this_computer_by_its_path(server: PageServer, tmp_path: Path) -> None:
    """A client names a file instead of uploading one: refused with and without Gradio's own mark on it."""
    for mark in ({}, {"meta": {"_type": "gradio.FileData"}}):
        picture = {"path": str(photograph()), **mark}
        answer = httpx.post(f"{server.url}/gradio_api/run/submit", json={"data": [picture, SMALL]})
        assert answer.status_code == 500, answer.text
        assert "upload" in answer.json()["error"]


def test_only_outputs_are_served(server: PageServer) -> None:
    for path in ("/etc/passwd", str(server.folder / "app.txt"), str(server.folder / "outputs")):
        assert httpx.get(f"{server.url}/gradio_api/file={path}").status_code == 403, path


def test_a_foreign_name_for_this_computer_is_refused(server: PageServer) -> None:
    """DNS rebinding: a website's own name, made to point at loopback."""
    port = server.url.rpartition(":")[2]
    for host, code in ((f"localhost:{port}", 200), (f"127.0.0.1:{port}", 200), (f"evil.example:{port}", 400)):
        assert httpx.get(f"{server.url}/config", headers={"host": host}).status_code == code, host


def test_endpoints_have_types(server: PageServer) -> None:
    info = httpx.get(f"{server.url}/gradio_api/info").json()["named_endpoints"]
    assert info.keys() == {"/submit", "/status", "/result", "/cancel"}
    assert [value["type"]["type"] for value in info["/submit"]["returns"]] == ["string"]
    assert [value["type"]["type"] for value in info["/cancel"]["returns"]] == ["boolean"]
    names = [parameter["parameter_name"] for parameter in info["/submit"]["parameters"]]
    assert names == ["picture", "settings"]


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 0), (signal.SIGHUP, 42)])
def test_a_signal_ends_page_and_worker(tmp_path: Path, sent: signal.Signals, code: int) -> None:
    with page_server(tmp_path) as running:
        client = Client(running.url, verbose=False)
        job_id = client.predict(handle_file(photograph()), {**SMALL, "steps": 400}, api_name="/submit")
        while not (pid := client.predict(job_id, api_name="/status")["worker_pid"]):
            time.sleep(0.05)
        worker = psutil.Process(pid)
        running.process.send_signal(sent)
        assert running.process.wait(30) == code
        psutil.wait_procs([worker], timeout=10)
        assert not worker.is_running()
    assert "Traceback" not in running.output.read_text()


def test_a_login_guards_the_network(tmp_path: Path) -> None:
    with page_server(tmp_path, "--listen") as running:
        password = re.search(r"password: (\S+)", running.output.read_text())[1]
        assert httpx.get(f"{running.url}/gradio_api/info").status_code == 401
        with pytest.raises(Exception, match="login"):
            Client(running.url, verbose=False, auth=("anybody", "wrong"))
        client = Client(running.url, verbose=False, auth=("anybody", password))
        with pytest.raises(AppError, match="nobody"):
            client.predict("nobody", api_name="/status")
