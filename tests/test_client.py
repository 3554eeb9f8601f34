"""The named endpoints as a real client calls them, on the real app with the bundled model."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from page_server import PageServer, page_server
from photos import photograph

from i2v.video.metadata import probe_video, read_metadata
from tests.video_support import film

pytestmark = pytest.mark.drives

SMALL = {"prompt": "a cheetah breathes", "width": 64, "height": 64, "frames": 4, "steps": 3, "seed": 7}
FINAL = ("done", "failed", "cancelled")
PATIENCE = 60  # seconds that something may take before it counts as never coming


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
    assert json.loads((folder_of(server, job_id) / "job.json").read_text())["owner"] == "local"
    assert psutil.pid_exists(status["worker_pid"])
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


# Following


def folder_of(server: PageServer, job_id: str) -> Path:
    (folder,) = (server.folder / "outputs").glob(f"????-??-??/{job_id}")
    return folder


def written_down(server: PageServer, job_id: str) -> list[dict]:
    """The job's events as they stand in its folder, in the words of the wire."""
    lines = (folder_of(server, job_id) / "events.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    return [
        {"file" if name == "path" else name: value for name, value in event.items() if name != "time"}
        for event in events
    ]


def told(batches: Iterable[list[dict]]) -> list[dict]:
    return [event for batch in batches for event in batch or ()]  # the client gives None for news without any


def test_viewers_at_once_and_a_late_one_are_told_what_is_written_down(client: Client, server: PageServer) -> None:
    job_id = client.predict(handle_file(photograph()), {**SMALL, "steps": 12}, api_name="/submit")
    first = client.submit(job_id, -1, api_name="/attach")
    second = Client(server.url, verbose=False).submit(job_id, api_name="/attach")
    for batch in first:  # one comes late, and one had seen the beginning
        if any(event["type"] == "step_finished" for event in batch or ()):
            break
    late = Client(server.url, verbose=False).submit(job_id, 4, api_name="/attach")
    seen = [told(viewer.outputs() if viewer.result(PATIENCE) else ()) for viewer in (first, second, late)]
    events = written_down(server, job_id)
    assert events[-1] == {"seq": len(events) - 1, "type": "state_changed", "state": "done"}
    assert seen == [events, events, events[5:]]
    assert told(client.submit(job_id, api_name="/attach")) == events  # all is over: at once
    assert told(client.submit(job_id, len(events), api_name="/attach")) == []


def test_followers_hold_no_thread(client: Client, server: PageServer) -> None:
    """More of them than the web server has threads, on a job that says nothing; everybody else is still answered."""
    job_id = client.predict(handle_file(photograph()), {**SMALL, "steps": 400}, api_name="/submit")
    assert client.predict(job_id, api_name="/pause") is True
    wait_for(client, job_id, lambda status: status["state"] == "paused")
    crowd = Client(server.url, verbose=False, max_workers=60)
    viewers = [crowd.submit(job_id, api_name="/attach") for _ in range(50)]
    deadline = time.monotonic() + PATIENCE
    while not all(viewer.outputs() for viewer in viewers):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert client.submit(job_id, api_name="/status").result(PATIENCE)["state"] == "paused"
    assert client.predict(job_id, api_name="/cancel") is True
    ends = [viewer.result(PATIENCE)[-1] for viewer in viewers]
    assert [end["state"] for end in ends] == ["cancelled"] * 50


def wait_for(client: Client, job_id: str, true: Callable[[dict], object]) -> dict:
    deadline = time.monotonic() + PATIENCE
    while not true(status := client.predict(job_id, api_name="/status")):
        assert time.monotonic() < deadline, status
        time.sleep(0.05)
    return status


# Steering


def test_a_run_is_laid_down_goes_on_and_is_made_use_of_again(client: Client, server: PageServer) -> None:
    job_id = client.predict(handle_file(photograph()), {**SMALL, "steps": 400}, api_name="/submit")
    wait_for(client, job_id, lambda status: status["phase"] == "denoise" and status["step"] >= 3)
    assert client.predict(job_id, api_name="/resume") is False
    assert client.predict(job_id, api_name="/pause") is True
    step = wait_for(client, job_id, lambda status: status["state"] == "paused")["step"]
    assert client.predict(job_id, api_name="/pause") is False
    assert client.predict(job_id, api_name="/resume") is True
    going = wait_for(client, job_id, lambda status: status["phase"] == "denoise" and status["step"] > step)
    assert going["resumed_from_step"] == step
    assert client.predict(job_id, api_name="/cancel") is True
    final_status(client, job_id)

    again = client.predict(job_id, {"decode_frames": 1}, api_name="/retry")
    assert wait_for(client, again, lambda status: status["resumed_from_step"])["resumed_from_step"] >= step
    client.predict(again, api_name="/cancel")
    draft = client.predict(job_id, {"fps": 3}, api_name="/redecode")
    assert final_status(client, draft)["state"] == "done"
    events = written_down(server, draft)
    assert [event for event in events if event.get("phase") == "denoise"] == []
    assert probe_video(folder_of(server, draft) / "video.mp4").fps == 3
    listed = client.predict(api_name="/list")
    assert [job["id"] for job in listed][-3:] == [job_id, again, draft]
    assert [job["parent"] for job in listed][-3:] == [None, job_id, job_id]
    assert client.predict(1, api_name="/list") == listed[-1:]


@pytest.mark.parametrize(
    ("endpoint", "given", "said"),
    [
        ("/list", (0,), "settings.bad_whole"),
        ("/list", ("many",), "settings.bad_whole"),
        ("/attach", ("nobody", -1), "jobs.unknown"),
        ("/attach", ("nobody", "x"), "settings.bad_whole"),
        ("/retry", ("nobody", {}), "jobs.unknown"),
        ("/retry", ("nobody", [1]), "ui.settings_not_object"),
        ("/redecode", ("nobody", None), "jobs.unknown"),
        ("/extend", ("nobody", {}), "jobs.unknown"),
        ("/export", ("nobody", {}), "jobs.unknown"),
        ("/export", ("nobody", "gif"), "ui.settings_not_object"),
        ("/steadiness", ("nobody",), "jobs.unknown"),
        ("/loras", ("nobody",), "models.unknown"),
        ("/loras", ("owner/name",), "models.offline"),
        ("/download", ("nobody",), "models.unknown"),
        ("/download", ({"id": 1},), "downloads.unknown"),
        ("/pause_download", ("nobody",), "downloads.unknown"),
        ("/cancel_download", ("",), "downloads.unknown"),
        ("/pause", ("nobody",), "jobs.unknown"),
        ("/resume", ({"id": 1},), "jobs.unknown"),
    ],
)
def test_a_refusal_has_its_message_as_title(client: Client, endpoint: str, given: tuple, said: str) -> None:
    with pytest.raises(AppError) as caught:
        client.predict(*given, api_name=endpoint)
    assert caught.value.title == said


@pytest.mark.parametrize("endpoint", ["status", "result", "cancel"])
def test_unknown_job(client: Client, endpoint: str) -> None:
    with pytest.raises(AppError, match="20200101-000000-abcdef"):
        client.predict("20200101-000000-abcdef", api_name=f"/{endpoint}")


def test_no_picture_of_this_computer_by_its_path(server: PageServer, tmp_path: Path) -> None:
    """A client names a file instead of uploading one: refused with and without Gradio's own mark on it."""
    for mark in ({}, {"meta": {"_type": "gradio.FileData"}}):
        picture = {"path": str(photograph()), **mark}
        answer = httpx.post(f"{server.url}/gradio_api/run/submit", json={"data": [picture, SMALL]})
        assert answer.status_code == 400, answer.text
        assert "upload" in answer.json()["error"]


def test_a_clip_is_uploaded_like_a_picture(client: Client, server: PageServer, tmp_path: Path) -> None:
    clip = film(tmp_path / "clip.mp4", "-c:v", "libx264", "-preset", "ultrafast")
    with pytest.raises(AppError, match="makes nothing from a video"):
        client.predict(handle_file(photograph()), {**SMALL, "video": handle_file(clip)}, api_name="/submit")
    with pytest.raises(AppError, match="did not arrive as an uploaded file"):
        client.predict(handle_file(photograph()), {**SMALL, "video": str(clip)}, api_name="/submit")
    for mark in ({}, {"meta": {"_type": "gradio.FileData"}}):
        data = [None, {**SMALL, "video": {"path": str(clip), **mark}}]
        answer = httpx.post(f"{server.url}/gradio_api/run/submit", json={"data": data})
        assert (answer.status_code, "upload" in answer.json()["error"]) == (400, True)


def test_a_last_picture_is_uploaded_like_the_first(client: Client, server: PageServer) -> None:
    first, path = handle_file(photograph()), str(photograph("tower.jpg"))
    with pytest.raises(AppError, match="takes no picture to end with"):
        client.predict(first, {**SMALL, "last_image": handle_file(path)}, api_name="/submit")
    with pytest.raises(AppError, match="did not arrive as an uploaded file"):
        client.predict(first, {**SMALL, "last_image": path}, api_name="/submit")
    for mark in ({}, {"meta": {"_type": "gradio.FileData"}}):
        data = [None, {**SMALL, "last_image": {"path": path, **mark}}]
        answer = httpx.post(f"{server.url}/gradio_api/run/submit", json={"data": data})
        assert (answer.status_code, "upload" in answer.json()["error"]) == (400, True)


def test_pictures_between_are_uploaded_like_the_first(client: Client) -> None:
    first, path = handle_file(photograph()), str(photograph("tower.jpg"))
    with pytest.raises(AppError, match="takes no picture for that frame"):
        client.predict(first, {**SMALL, "image_at": {"3": handle_file(path)}}, api_name="/submit")
    with pytest.raises(AppError, match="did not arrive as an uploaded file"):
        client.predict(first, {**SMALL, "image_at": {"3": path}}, api_name="/submit")


def test_only_outputs_are_served(server: PageServer) -> None:
    for path in ("/etc/passwd", str(server.folder / "app.txt"), str(server.folder / "outputs")):
        assert httpx.get(f"{server.url}/gradio_api/file={path}").status_code == 403, path


def spellings(outputs: Path, name: str) -> Iterator[str]:
    """Ways to write the address of `outputs/.i2v/<name>`, as they go over the wire."""
    plain = f"{outputs}/.i2v/{name}"
    yield from (
        plain,
        f"/{plain}",
        f"{outputs}//.i2v//{name}",
        f"{outputs}/./.i2v/./{name}",
        f"{plain}/",
        f"{plain}%00",
    )
    yield from (
        f"{outputs}/2026-11-20/../.i2v/{name}",
        f"{outputs}/.i2v/bin/../{name}",
        f"{outputs}/.i2v/../.i2v/{name}",
    )
    yield from (f"outputs/.i2v/{name}", f"./outputs/.i2v/{name}", f"file://{plain}", f"{outputs}/.I2V/{name}")
    yield from (f"{outputs}/%2ei2v/{name}", f"{outputs}/%2Ei2v%2F{name}", f"{outputs}/x/%2e%2e/.i2v/{name}")
    yield from (plain.replace("/", "%2f"), plain.replace("/", "%252f"), f"{outputs}/%252ei2v/{name}")
    yield from (f"{outputs}\\.i2v\\{name}", f"{outputs}/..%2foutputs/.i2v/{name}", f"{plain}?v=1", f"{plain}#v")


def ask(server: PageServer, path: str, **headers: str) -> tuple[int, bytes]:
    """The answer to a path that no client has tidied up."""
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_what_the_app_keeps_for_itself_is_not_served(client: Client, server: PageServer) -> None:
    """The list of jobs, the lease, the bin and the cache, however their addresses are written; a video is."""
    job_id = client.predict(handle_file(photograph()), SMALL, api_name="/submit")
    assert final_status(client, job_id)["state"] == "done"
    outputs = server.folder / "outputs"
    kept = ["lease", "jobs.sqlite", "bin/20200101-000000-abcdef/video.mp4", "cache/kept.safetensors"]
    for name in kept[2:]:
        (outputs / ".i2v" / name).parent.mkdir(parents=True, exist_ok=True)
        (outputs / ".i2v" / name).write_bytes(b"kept for ourselves")
    served = [
        (path, headers)
        for name in kept
        for path in spellings(outputs, name)
        for route in ("/gradio_api/file=", "/gradio_api/file/")
        for headers in ({}, {"Range": "bytes=0-3"})
        if ask(server, route + path, **headers)[0] < 400
    ]
    assert served == []
    video = folder_of(server, job_id) / "video.mp4"
    assert ask(server, f"/gradio_api/file={video}") == (200, video.read_bytes())


def test_a_foreign_name_for_this_computer_is_refused(server: PageServer) -> None:
    """DNS rebinding: a website's own name, made to point at loopback."""
    port = server.url.rpartition(":")[2]
    for host, code in ((f"localhost:{port}", 200), (f"127.0.0.1:{port}", 200), (f"evil.example:{port}", 400)):
        assert httpx.get(f"{server.url}/config", headers={"host": host}).status_code == code, host


def test_endpoints_have_types(server: PageServer) -> None:
    info = httpx.get(f"{server.url}/gradio_api/info").json()["named_endpoints"]
    named = {"submit", "status", "list", "attach", "result", "cancel", "pause", "resume", "retry", "redecode", "export"}
    named |= {"steadiness", "extend", "train", "training", "loras"}
    named |= {"downloads", "download", "pause_download", "resume_download", "cancel_download"}
    assert info.keys() == {f"/{name}" for name in named}
    assert [value["type"]["type"] for value in info["/submit"]["returns"]] == ["string"]
    assert [value["type"]["type"] for value in info["/cancel"]["returns"]] == ["boolean"]
    names = [parameter["parameter_name"] for parameter in info["/submit"]["parameters"]]
    assert names == ["picture", "settings"]
    assert [parameter["parameter_name"] for parameter in info["/train"]["parameters"]] == ["clips", "settings"]


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 0), (signal.SIGHUP, 42)])
def test_a_signal_ends_the_page(tmp_path: Path, sent: signal.Signals, code: int) -> None:
    with page_server(tmp_path) as running:
        os.kill(running.process.pid, sent)
        assert running.process.wait(120) == code
    assert "Traceback" not in running.output.read_text()


def test_a_signal_ends_page_and_all_that_computes(tmp_path: Path) -> None:
    """A page started as a person starts it, with a job at work."""
    with page_server(tmp_path, anew=True, environ={"I2V_PRELOAD": "true"}) as running:
        client = Client(running.url, verbose=False)
        job_id = client.predict(handle_file(photograph()), {**SMALL, "steps": 400}, api_name="/submit")
        while not (pid := client.predict(job_id, api_name="/status")["worker_pid"]):
            time.sleep(0.05)
        children = psutil.Process(running.process.pid).children(recursive=True)
        assert pid in {child.pid for child in children}
        # Linux lists the libraries of a process: torch's are the worker's alone, Gradio's parts the page's.
        libraries = [Path(f"/proc/{one}/maps").read_text() for one in (running.process.pid, pid)]
        assert ["/torch/" in text for text in libraries] == [False, True]
        assert ["/orjson/" in text for text in libraries] == [True, False]
        os.kill(running.process.pid, signal.SIGTERM)
        assert running.process.wait(120) == 0
        psutil.wait_procs(children, timeout=120)
        assert not [child for child in children if child.is_running()]
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
        job_id = client.predict(handle_file(photograph()), SMALL, api_name="/submit")
        ticket = json.loads((folder_of(running, job_id) / "job.json").read_text())
        assert ticket["owner"] == "anybody"
