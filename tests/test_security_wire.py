"""Attacks over the wire on one page with a password: none succeeds, and each leaves a line in the application's log
with the address that it came from. What one person may do to another's jobs is in test_owners.py, passwords tried one
after the other in test_network.py, pictures that are none in test_bad_input.py and test_picture.py."""

from __future__ import annotations

import io
import json
import pickle
import socket
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_folders import make_checkpoint
from page_server import PageServer, page_server
from people import ADMIN_PASSWORD, PASSWORD, SMALL, UNFILTERED, Person, submit, wait_for
from photos import photograph
from picture_files import png

from i2v.families import SPECS
from i2v.ui.gate.intake import CLIENTS_KEPT, LOGGED_A_MINUTE, MOST_BYTES, RefusalLog, named_files

pytestmark = pytest.mark.drives

GUEST_PASSWORD = "look only"
UNET = Path("unet") / "diffusion_pytorch_model.safetensors"


@dataclass(frozen=True)
class Site:
    """A page with Ann, who has a finished job and one laid down, Bob, who has none, an admin and a guest."""

    server: PageServer
    ann: Person
    bob: Person
    admin: Person
    guest: Person
    done: str
    paused: str

    @property
    def outputs(self) -> Path:
        return self.server.folder / "outputs"

    @property
    def uploads(self) -> Path:
        return self.server.folder / "uploads"

    def log(self) -> str:
        return (self.server.folder / "logs" / "app.log").read_text()

    @contextmanager
    def logged(self, *fragments: str) -> Iterator[None]:
        """What happens meanwhile leaves a warning with all of `fragments` and the address."""
        before = len(self.log())
        yield
        lines = self.log()[before:].splitlines()
        wanted = ("WARNING", "127.0.0.1", *fragments)
        assert [line for line in lines if all(part in line for part in wanted)], (fragments, lines)

    def jobs(self) -> dict[str, str]:
        """Every job's state."""
        return {job["id"]: job["state"] for job in self.admin.told("list", 1000)}

    def files(self) -> set[tuple[str, int]]:
        """What lies in the outputs folder with its size, but for what the page makes to look at, and the list."""
        found = (path for path in self.outputs.rglob("*") if path.is_file() and path.name != "poster.webp")
        inside = ((path.relative_to(self.outputs), path.stat().st_size) for path in found)
        return {(str(path), size) for path, size in inside if not path.name.startswith("jobs.sqlite")}


class Evil:
    """Unpickled, it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def make_evil_models(models: Path, marker: Path) -> None:
    """Models whose weights are a pickle, a zip file that unpacks to a thousand times its size, and a header that
    promises more than any memory."""
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", b"\0" * 2**26)
    contents = {
        "pickled": pickle.dumps(Evil(marker)),
        "zipped": bomb.getvalue(),
        "endless": (2**40).to_bytes(8, "little") + b"{}",
    }
    for name, content in contents.items():
        (make_checkpoint(models / name, SPECS["i2vgen_xl"]) / UNET).write_bytes(content)
    only_pickles = make_checkpoint(models / "only-pickles", SPECS["i2vgen_xl"])
    (only_pickles / UNET).rename((only_pickles / UNET).with_suffix(".bin"))
    (only_pickles / UNET).with_suffix(".bin").write_bytes(pickle.dumps(Evil(marker)))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    make_evil_models(folder / "models", folder / "marker")
    environ = {
        "I2V_PASSWORD": PASSWORD,
        "I2V_ADMIN_PASSWORD": ADMIN_PASSWORD,
        "I2V_GUEST_PASSWORD": GUEST_PASSWORD,
        "I2V_MAX_UPLOAD_MB": "1",
        "I2V_OFFLINE": "1",
    }
    with page_server(folder, environ=environ) as server:
        ann, bob = Person(server, "ann"), Person(server, "bob")
        admin, guest = Person(server, "admin", ADMIN_PASSWORD), Person(server, "guest", GUEST_PASSWORD)
        assert [person.entered for person in (ann, bob, admin, guest)] == [200] * 4
        done = submit(server, "ann")
        wait_for(ann, done, "done")
        paused = submit(server, "ann", steps=400)
        assert ann.told("pause", paused)
        wait_for(ann, paused, "paused")
        yield Site(server, ann, bob, admin, guest, done, paused)


def upload(person: Person, name: str, content: bytes) -> str:
    (stored,) = person.http.post("/gradio_api/upload", files={"files": (name, content)}).json()
    return stored


def file_data(path: str) -> dict[str, Any]:
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


# --- every way to hand in a file ---


@dataclass(frozen=True)
class Callback:
    """Something that the page can be asked to do, and what a browser would send with it."""

    number: int
    trigger: int
    event: str
    data: list[Any]
    names: tuple[str, ...]
    """The elem_id of what triggers it."""


def callbacks(person: Person, picture: Any, job_id: str, clip: Any = None) -> list[Callback]:
    """Everything that the page's own buttons and timers can ask for, with this picture, this video and this job."""
    parts = {part["id"]: part for part in person.config["components"]}

    def value(part: dict[str, Any]) -> Any:
        if part["props"].get("elem_id") == "i2v-clip":
            return clip
        if part["type"] in ("image", "uploadbutton", "file"):
            return picture
        if part["type"] == "browserstate":
            return job_id if part["props"].get("storage_key") == "i2v-job" else {"ids": [job_id], "picked": []}
        if part["props"].get("elem_id") == "i2v-prompt" or part["props"].get("label") == "Prompt":
            return "it moves"
        given = part["props"].get("value")
        return None if part["type"] == "state" else given

    found = []
    for dep in person.config["dependencies"]:
        if not dep["targets"] or not dep["backend_fn"]:
            continue
        target, event = dep["targets"][0]
        named = tuple(parts[of]["props"].get("elem_id") or "" for of, _ in dep["targets"] if of in parts)
        data = [value(parts[number]) for number in dep["inputs"]]
        found.append(Callback(dep["id"], target, event, data, named))
    return found


def press(person: Person, callback: Callback, session: str, **event_data: Any) -> httpx.Response:
    body = {
        "fn_index": callback.number, "trigger_id": callback.trigger, "data": callback.data, "session_hash": session,
        "event_data": event_data or None,
    }  # fmt: skip
    return person.http.post("/gradio_api/run/predict", json=body)


def ways_to_hand_in(person: Person, picture: Any) -> Iterator[tuple[str, httpx.Response]]:
    """Every route, endpoint and button that takes a file, and its answer to this one."""
    for route in ("run/submit", "api/submit", "call/submit", "queue/join", "run/submit/"):
        body = {"data": [picture, SMALL], "session_hash": "s", "api_name": "submit", "fn_index": 0}
        yield route, person.http.post(f"/gradio_api/{route}", json=body)
    yield "call/v2", person.http.post("/gradio_api/call/v2/submit", json={"picture": picture, "settings": SMALL})
    sent = [callbacks(person, None, "", picture), callbacks(person, picture, "")]
    takers = [one for both in sent for one in both if picture in one.data]
    assert {"i2v-generate", "i2v-scout-send", "i2v-restore"} <= {name for one in takers for name in one.names}
    for one in takers:
        yield f"{one.names} {one.event}", press(person, one, "s")


def test_no_way_in_takes_a_file_that_was_not_uploaded(site: Site) -> None:
    folder = next(site.outputs.glob(f"????-??-??/{site.done}"))
    secrets = [site.outputs / ".i2v" / "jobs.sqlite", Path(__file__).parents[1] / "config.yaml", folder / "video.mp4"]
    before, files = site.jobs(), site.files()
    for secret in (*map(str, secrets), f"{site.uploads}/../outputs/.i2v/jobs.sqlite", "/etc/passwd", "", "\0", "C:\\x"):
        for way, answer in ways_to_hand_in(site.bob, file_data(secret)):
            assert answer.status_code == 400, (way, secret, answer.text)
            assert "ui.bad_picture_upload" in answer.text
    with site.logged("named the file", "jobs.sqlite"):
        site.bob.call("submit", file_data(str(secrets[0])), SMALL)
    assert (site.jobs(), site.files()) == (before, files)


def test_no_way_in_is_closed_to_what_was_uploaded(site: Site) -> None:
    """So the refusals above are for the file, not for how it was handed in."""
    mine = file_data(upload(site.bob, "no picture.jpg", b"no picture"))
    for way, answer in ways_to_hand_in(site.bob, mine):
        assert "ui.bad_picture_upload" not in answer.text, way
        assert answer.status_code in (200, 500), (way, answer.text)


def test_no_dress_of_a_body_hides_the_file_that_it_names(site: Site) -> None:
    secret, mine = "/etc/passwd", upload(site.bob, "a.jpg", photograph().read_bytes()[:1000])
    plain = json.dumps({"data": [file_data(secret), SMALL]})
    twice = plain.replace('"path": "/etc/passwd"', f'"path": "/etc/passwd", "path": {json.dumps(mine)}')
    dressed = {
        "utf-16": plain.encode("utf-16"),
        "escapes": plain.replace("path", "p\\u0061th").encode(),
        "twice": twice.encode(),
        "twice, the other way": twice.replace(mine, "X").replace(secret, mine).replace("X", secret).encode(),
        "a number that few readers take": plain.replace('"seed": 7', '"seed": 1' + "0" * 9000).encode(),
        "deep": (b'{"data":' + b"[" * 20_000 + plain.encode() + b"]" * 20_000 + b"}"),
        "no JSON": plain.encode() + b"]",
    }
    for how, body in dressed.items():
        for kind in ("application/json", "text/plain", "application/x-www-form-urlencoded"):
            answer = site.bob.http.post("/gradio_api/run/submit", content=body, headers={"content-type": kind})
            assert answer.status_code == 400, (how, kind, answer.text)
    assert site.bob.told("list", 100) == []


@given(st.recursive(st.text(max_size=3), lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner)))
def test_a_named_file_is_found_wherever_it_stands(value: Any) -> None:
    body = json.dumps({"data": [value, {"path": "here"}, [value]]}).encode()
    assert "here" in named_files(body)
    assert len(named_files(body)) >= 1


# --- addresses instead of files ---


@dataclass(frozen=True)
class Inside:
    """A server of the inner network that nobody outside is to reach."""

    port: int
    asked: list[str]


@pytest.fixture
def inside() -> Iterator[Inside]:
    asked: list[str] = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(photograph().read_bytes())

        do_HEAD = do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Inside(server.server_port, asked)
    server.shutdown()
    server.server_close()


def test_a_picture_by_its_address_is_fetched_for_nobody(site: Site, inside: Inside) -> None:
    hosts = ("127.0.0.1", "localhost", "127.1", "0x7f000001", "2130706433", "[::ffff:127.0.0.1]", "0.0.0.0")
    addresses = [f"http://{host}:{inside.port}/picture.jpg" for host in hosts]
    addresses += [
        f"HTTP://127.0.0.1:{inside.port}/x.jpg", f" http://127.0.0.1:{inside.port}/x.jpg",
        f"//127.0.0.1:{inside.port}/x.jpg", f"ftp://127.0.0.1:{inside.port}/x.jpg", "file:///etc/passwd",
        f"http://ann@127.0.0.1:{inside.port}/x.jpg", "data:image/png;base64,AAAA",
    ]  # fmt: skip
    # As a path this one ends at an upload of Bob's.
    mine = upload(site.bob, "x.jpg", b"x")
    climbing = f"http://127.0.0.1:{inside.port}/{'../' * 20}{mine.lstrip('/')}"
    assert Path(climbing).resolve() == Path(mine).resolve()
    addresses.append(climbing)
    for address in addresses:
        for picture in (file_data(address), {**file_data(address), "url": address, "orig_name": "x.jpg"}):
            assert site.bob.call("submit", picture, SMALL).status_code == 400, address
    for address in (addresses[0], climbing):
        for way, answer in ways_to_hand_in(site.bob, file_data(address)):
            assert answer.status_code == 400, (way, answer.text)
    # The file that was uploaded counts, not the address beside it.
    beside = {**file_data(mine), "url": addresses[0]}
    for way, answer in ways_to_hand_in(site.bob, beside):
        assert answer.status_code in (200, 500), way
    for route in ("file=", "file/", "proxy=", "proxy=https://", "stream/", "custom_component/"):
        for address in addresses[:4]:
            assert site.bob.fetch(f"/gradio_api/{route}{address.strip()}")[0] >= 400, (route, address)
    with site.logged("named the file", f":{inside.port}/picture.jpg"):
        site.bob.call("submit", file_data(addresses[0]), SMALL)
    assert inside.asked == []
    assert httpx.get(addresses[0], trust_env=False).status_code == 200  # it would have answered
    assert inside.asked == ["/picture.jpg"]


# --- too much, and something else than it says ---


def test_too_much_is_refused_however_it_is_sent(site: Site) -> None:
    def chunks(size: int) -> Iterator[bytes]:
        yield from (b"x" * 2**16 for _ in range(size // 2**16))

    with site.logged("Answered 413", "/gradio_api/upload"):
        assert site.bob.http.post("/gradio_api/upload", files={"files": ("x.jpg", b"x" * 2**21)}).status_code == 413
    edge = b"--b\r\ncontent-disposition: form-data; name=files; filename=x.jpg\r\n\r\n"
    kind = {"content-type": "multipart/form-data; boundary=b"}

    def streamed() -> Iterator[bytes]:
        yield edge
        yield from chunks(2**21)
        yield b"\r\n--b--\r\n"

    assert site.bob.http.post("/gradio_api/upload", content=streamed(), headers=kind).status_code == 413
    kind = {"content-type": "application/json"}
    for route in ("run/submit", "queue/join", "call/submit"):
        with site.logged("Answered 413", route):
            assert site.bob.http.post(f"/gradio_api/{route}", json={"data": "x" * MOST_BYTES}).status_code == 413
        answer = site.bob.http.post(f"/gradio_api/{route}", content=chunks(MOST_BYTES + 2**17), headers=kind)
        assert answer.status_code == 413
    # Who sends to the end before listening, as some clients do, gets the answer all the same, to its last byte.
    host, port = site.bob.host.split(":")
    with socket.create_connection((host, int(port)), 30) as line:
        line.sendall(f"POST /login HTTP/1.1\r\nhost: {site.bob.host}\r\ncontent-length: {2**24}\r\n\r\n".encode())
        for _ in range(16):
            line.sendall(b"x" * 2**20)
            time.sleep(0.02)
        head, _, body = b"".join(iter(partial(line.recv, 2**16), b"")).partition(b"\r\n\r\n")
        assert b" 413 " in head
        assert json.loads(body)["title"] == "ui.body_too_large"
    # Who announces more than anybody would take is not listened to at all.
    with socket.create_connection((host, int(port)), 30) as line:
        head = f"POST /login HTTP/1.1\r\nhost: {site.bob.host}\r\ncontent-length: {10**12}\r\n\r\n"
        line.sendall(head.encode())
        assert b" 413 " in line.recv(1000)


def test_what_is_no_picture_is_refused_whatever_it_is_called(site: Site) -> None:
    page = b"<!doctype html><script>alert(1)</script>"
    drawn = b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>'
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as file:
        file.writestr("x.jpg", b"x")
    bomb = png(60_000, 60_000, bits=8, colour_type=2, rows=None)
    contents = {"page": page, "drawn": drawn, "zip": zipped.getvalue(), "bomb": bomb, "pickle": pickle.dumps([1]),
                "empty": b"", "half": photograph().read_bytes()[:2000]}  # fmt: skip
    for what, content in contents.items():
        for name in ("photo.jpg", "photo.png", "photo.html", "photo.svg"):
            stored = upload(site.bob, name, content)
            with site.logged("'bob' asked for a job that cannot be"):
                refused = site.bob.call("submit", file_data(stored), SMALL)
            assert refused.status_code == 500, (what, name)
            assert "Traceback" not in refused.text
            assert "unexpected" not in refused.text
            served = site.bob.http.get(f"/gradio_api/file={stored}")
            inline = "attachment" not in served.headers.get("content-disposition", "")
            assert not inline or served.headers["content-type"].startswith("image/") is True, (what, name)
            assert not (inline and "svg" in served.headers["content-type"]), (what, name)
    assert site.bob.told("list", 100) == []


# --- models ---


@pytest.mark.parametrize("model", ["pickled", "zipped", "endless", "only-pickles"])
def test_a_model_of_pickles_or_bombs_is_never_opened(site: Site, model: str) -> None:
    picture = file_data(upload(site.bob, "photo.jpg", photograph().read_bytes()))
    with site.logged("'bob' asked for a job that cannot be: models."):
        answer = site.bob.call("submit", picture, {**SMALL, "model": model})
    assert answer.status_code == 500
    assert "unexpected" not in answer.text
    assert not (site.server.folder / "marker").exists()
    assert site.bob.told("list", 100) == []


def test_no_folder_of_the_computer_is_a_model_for_who_comes_over_the_wire(site: Site) -> None:
    """Not even its absence is told."""
    picture = file_data(upload(site.bob, "photo.jpg", photograph().read_bytes()))
    bomb = upload(site.bob, "model.ckpt", pickle.dumps(Evil(site.server.folder / "marker")))
    there = [str(site.server.folder), str(Path(bomb).parent), bomb, "/etc", "/etc/passwd", "outputs", "../"]
    answers = set()
    for model in (*there, "/no/where", "./nowhere", "~root"):
        answer = site.bob.call("submit", picture, {**SMALL, "model": model})
        assert answer.status_code == 500
        assert "models.unknown" in answer.text, (model, answer.text)
        answers.add(answer.text.replace(json.dumps(model)[1:-1], "MODEL"))
    assert len(answers) == 1
    for one in callbacks(site.bob, None, ""):
        changed = [str(site.server.folder) if value in ("auto", "nano") else value for value in one.data]
        if changed != one.data:
            told = press(site.bob, Callback(one.number, one.trigger, one.event, changed, one.names), "s").text
            assert "model_index.json" not in told, one.names
    assert not (site.server.folder / "marker").exists()


# --- the log ---


def test_a_wrong_password_and_a_forged_cookie_are_logged_without_what_was_tried(site: Site) -> None:
    stranger = httpx.Client(base_url=site.server.url, trust_env=False)
    with site.logged("Login refused"):
        assert stranger.post("/login", data={"username": "ann", "password": "hunter2"}).status_code == 400
    with site.logged("Answered 401", "/gradio_api/info"):
        headers = {"cookie": "access-token-unsecure-x=forged-cookie"}
        assert stranger.get("/gradio_api/info?token=forged-cookie", headers=headers).status_code == 401
    for secret in ("hunter2", "forged-cookie", PASSWORD, ADMIN_PASSWORD, GUEST_PASSWORD):
        assert secret not in site.log()
    assert Person(site.server, "bob").entered == 200


def test_a_flood_of_refusals_does_not_wash_the_log_away(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    noted = RefusalLog(lambda: now[0])
    for number in range(1000):
        noted.refusal("a", 401, "GET", "/the same")
        noted.refusal("a", 401, "GET", f"/{number}")
    noted.refusal("b", 404, "GET", "/x\nINFO i2v: all is well")
    now[0] = 60.0
    noted.refusal("a", 403, "POST", "/later")
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == LOGGED_A_MINUTE + 3
    assert "left out" in said[LOGGED_A_MINUTE]
    assert said[-1] == "Answered 403: a, POST '/later'"
    assert not [line for line in said if "\n" in line]
    for number in range(CLIENTS_KEPT + 10):
        noted.refusal(str(number), 404, "GET", "/")
    assert len(noted._minutes) == CLIENTS_KEPT


# --- guests ---


def test_a_guest_sees_the_queue_and_the_videos(site: Site) -> None:
    assert {job["id"] for job in site.guest.told("list", 100)} >= {site.done, site.paused}
    assert site.guest.told("status", site.paused)["state"] == "paused"
    video = next(site.outputs.glob(f"????-??-??/{site.done}/video.mp4"))
    assert site.guest.fetch(f"/gradio_api/file={video}") == (200, video.read_bytes())
    listed = site.guest.press("i2v-queue-list", "click", None, "en", session="g", act="", id="").json()["data"][2]
    assert "i2v-job-prompt" in listed
    opened = site.guest.press(
        "i2v-gallery-grid", "click", None, "en", *UNFILTERED, session="g", act="open", id=site.done
    )
    assert f"{site.done}/video.mp4" in opened.text
    for path in (site.outputs / ".i2v" / "jobs.sqlite", site.outputs / "x", site.server.folder / "logs" / "app.log"):
        assert site.guest.fetch(f"/gradio_api/file={path}")[0] in (403, 404), path


@pytest.mark.parametrize("endpoint", ["cancel", "pause", "resume", "retry", "redecode", "extend", "export"])
def test_a_guest_steers_no_job(site: Site, endpoint: str) -> None:
    more = ({},) if endpoint in ("retry", "redecode", "extend", "export") else ()
    before = site.jobs()
    for job_id in (site.done, site.paused):
        with site.logged(f"'guest' asked for a change of {job_id}"):
            answer = site.guest.call(endpoint, job_id, *more)
        assert "ui.guest_only_looks" in answer.text
    assert "jobs.unknown" in site.guest.call(endpoint, "20200101-000000-abcdef", *more).text
    assert site.jobs() == before


def test_a_guest_uploads_and_sends_nothing(site: Site) -> None:
    for path in ("/gradio_api/upload", "/gradio_api/upload/", "//gradio_api//upload", "/gradio_api/upload?upload_id=x"):
        url = site.server.url + path
        answer = site.guest.http.post(url, files={"files": ("x.jpg", b"x")}, follow_redirects=True)
        assert answer.status_code in (403, 404, 405), path
    mine = file_data(upload(site.bob, "photo.jpg", photograph().read_bytes()))
    with site.logged("'guest' asked for a new job"):
        assert "ui.guest_only_looks" in site.guest.call("submit", mine, SMALL).text


def test_nothing_on_the_page_changes_anything_for_a_guest(site: Site) -> None:
    """Whatever a browser can ask the page for, with Ann's jobs and Bob's photograph."""
    picture = file_data(upload(site.bob, "photo.jpg", photograph().read_bytes()))
    before, files = site.jobs(), site.files()
    for job_id in (site.done, site.paused):
        site.guest.press("i2v-gallery-grid", "click", None, "en", *UNFILTERED, session="t", act="open", id=job_id)
        for one in callbacks(site.guest, picture, job_id):
            if one.event != "tick":
                for act in ("up", "down", "pause", "resume", "cancel", "retry", "go_on", "open"):
                    press(site.guest, one, "t", act=act, id=job_id)
                    if not {"i2v-queue-list", "i2v-scout-board", "i2v-gallery-grid"} & set(one.names):
                        break
    assert (site.jobs(), site.files()) == (before, files)
    assert "'guest' asked for tidying" in site.log()
    assert "'guest' asked for the self-test" in site.log()
    # The same from somebody who may: so what was sent would have done it.
    for one in callbacks(site.bob, picture, ""):
        if {"i2v-generate", "i2v-scout-send"} & set(one.names):
            assert press(site.bob, one, "b").status_code == 200
    sent = set(site.jobs()) - set(before)
    for job_id in sent:
        site.admin.told("cancel", job_id)
    assert len(sent) == 4
