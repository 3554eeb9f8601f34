"""Jobs belong to who sent them: two people and an admin on one page with a password, asked over the wire."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from hypothesis import given
from hypothesis import strategies as st
from page_server import PageServer, page_server
from people import ADMIN_PASSWORD, MARKUP, PASSWORD, PATIENCE, SMALL, UNFILTERED, Person, submit, wait_for
from photos import photograph

from i2v.ui.gate.access import admits, may, may_see
from i2v.ui.gate.own import job_in

pytestmark = pytest.mark.drives

NOBODYS = "20200101-000000-abcdef"
UNFINISHED = (False, False, "1", "1")
ENDPOINTS = ("status", "result", "cancel", "pause", "resume", "retry", "redecode", "extend", "export", "steadiness")


@dataclass(frozen=True)
class House:
    """A page with two people and an admin. Ann has a finished job and one laid down, Bob a finished one."""

    server: PageServer
    ann: Person
    bob: Person
    admin: Person
    done: str
    paused: str
    bobs: str

    @property
    def outputs(self) -> Path:
        return self.server.folder / "outputs"

    def folder(self, job_id: str) -> Path:
        (folder,) = self.outputs.glob(f"????-??-??/{job_id}")
        return folder

    def log(self) -> str:
        return (self.server.folder / "logs" / "app.log").read_text()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    passwords = {"I2V_PASSWORD": PASSWORD, "I2V_ADMIN_PASSWORD": ADMIN_PASSWORD}
    with page_server(tmp_path_factory.mktemp("owners"), environ=passwords) as server:
        ann, bob, admin = Person(server, "ann"), Person(server, "bob"), Person(server, "admin", ADMIN_PASSWORD)
        assert [person.entered for person in (ann, bob, admin)] == [200] * 3
        done, bobs = submit(server, "ann"), submit(server, "bob")
        wait_for(ann, done, "done")
        wait_for(bob, bobs, "done")
        paused = submit(server, "ann", steps=400)
        assert ann.told("pause", paused)
        wait_for(ann, paused, "paused")
        yield House(server, ann, bob, admin, done, paused, bobs)


# --- who may ---


@given(st.text(), st.text())
def test_a_job_is_its_owners_and_the_admins(owner: str, who: str) -> None:
    assert may(owner, who) == (who in (owner, "admin", "local"))
    assert may(owner, owner)
    assert may(owner, "admin")
    assert may_see(owner, who) == (who in (owner, "admin", "local", "guest"))
    assert may_see(owner, who) or not may(owner, who)


def test_no_login_has_the_name_of_somebody_else() -> None:
    assert admits("ann", "pw", "pw", None)
    assert admits("安", "pw", "pw", "other")
    assert not admits("ann", "other", "pw", "other")
    assert not admits("ann", "", None, None)
    assert not admits("ann", "", "", None)
    assert admits("admin", "other", "pw", "other")
    for name in (
        "admin",
        "Admin",
        "ADMIN",
        "ａｄｍｉｎ",
        "guest",
        "Guest",
        "ｇuest",
        "local",
        "Local",
        "ｌocal",
        "admin\u3000",
        "",
        "a\nb",
        "x" * 81,
    ):
        for given_password in ("pw", "other", "third", ""):
            assert not admits(name, given_password, "pw", None), name
            assert not admits(name, given_password, "pw", "other") or (name, given_password) == ("admin", "other")
            right = {"admin": "other", "guest": "third"}.get(name)
            assert admits(name, given_password, "pw", "other", "third") is (given_password == right), name


def test_names_of_others_are_refused_at_the_door(house: House) -> None:
    for name, password in (("admin", PASSWORD), ("local", PASSWORD), (" ", PASSWORD), ("ann", ADMIN_PASSWORD)):
        assert Person(house.server, name, password).entered in (400, 422), name


# --- the endpoints ---


def same_but_for_the_id(answers: Mapping[str, httpx.Response]) -> set[tuple[int, str]]:
    """What was answered for each id, with the ids taken out."""
    return {(answer.status_code, answer.text.replace(job_id, "ID")) for job_id, answer in answers.items()}


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_anothers_job_is_as_unknown_as_one_that_never_was(house: House, endpoint: str) -> None:
    more = ({},) if endpoint in ("retry", "redecode", "extend", "export") else ()
    ids = (NOBODYS, house.done, house.paused)
    (answer,) = same_but_for_the_id({job_id: house.bob.call(endpoint, job_id, *more) for job_id in ids})
    assert answer[0] == 500
    assert "jobs.unknown" in answer[1]
    assert house.ann.told("status", house.paused)["state"] == "paused"
    assert len(house.admin.told("list", 100)) == 3
    assert f"'bob' asked for {house.paused}" in house.log()


def test_nobody_follows_anothers_job(house: House) -> None:
    bob = Client(house.server.url, verbose=False, auth=("bob", PASSWORD))
    for job_id in (house.done, house.paused, NOBODYS):
        with pytest.raises(AppError) as caught:
            bob.predict(job_id, -1, api_name="/attach")
        assert caught.value.title == "jobs.unknown"
    ann = Client(house.server.url, verbose=False, auth=("ann", PASSWORD))
    assert ann.submit(house.done, api_name="/attach").result(PATIENCE)[-1]["state"] == "done"


def test_everybody_lists_their_own_and_the_admin_all(house: House) -> None:
    def listed(person: Person) -> list[str]:
        return [job["id"] for job in person.told("list", 100)]

    assert listed(house.ann) == [house.done, house.paused]
    assert listed(house.bob) == [house.bobs]
    assert listed(house.admin) == [house.done, house.bobs, house.paused]
    assert house.bob.told("list", 1)[0]["id"] == house.bobs  # not one of nothing, for the newest is another's


def test_the_admin_steers_all(house: House) -> None:
    assert house.admin.told("status", house.paused)["state"] == "paused"
    assert house.admin.told("resume", house.paused) is True
    assert house.admin.told("pause", house.paused) is True
    wait_for(house.admin, house.paused, "paused")
    video = house.folder(house.done) / "video.mp4"
    assert house.admin.fetch(f"/gradio_api/file={video}") == (200, video.read_bytes())


def test_an_owner_in_the_request_counts_for_nothing(house: House) -> None:
    said = {"owner": "ann", "username": "ann", "user": "ann", "request": {"username": "ann"}}
    for beside in (said, {"session_hash": "x", **said}):
        assert "jobs.unknown" in house.bob.call("status", house.done, **beside).text
    headers = {
        "x-forwarded-user": "ann",
        "x-remote-user": "ann",
        "x-forwarded-for": "127.0.0.1",
        "authorization": "ann",
    }
    answer = house.bob.http.post("/gradio_api/run/status", json={"data": [house.done]}, headers=headers)
    assert "jobs.unknown" in answer.text
    bob = Client(house.server.url, verbose=False, auth=("bob", PASSWORD))
    with pytest.raises(AppError, match="owner"):
        bob.predict(handle_file(photograph()), {**SMALL, "owner": "ann"}, api_name="/submit")
    ticket = json.loads((house.folder(house.bobs) / "job.json").read_text())
    assert ticket["owner"] == "bob"


def test_a_forged_cookie_is_nobodys(house: House) -> None:
    names = [pair.partition("=")[0] for pair in house.bob.cookies.split("; ")]
    (own,) = [name for name in names if "unsecure" in name]
    secure, token = own.replace("-unsecure", ""), house.bob.http.cookies[own]
    forged = ["ann", "admin", "local", "null", "", token[:-1], token[::-1], f'"{token}x"', "0", "true", "None"]
    cookies = [f"{name}={value}" for value in forged for name in (own, secure)]
    cookies += [f"{own.rpartition('-')[0]}-x={token}", "username=ann; user=ann", f"{secure}=forged; {own}={token}"]
    video = house.folder(house.done) / "video.mp4"
    for cookie in cookies:
        for path in ("/gradio_api/startup-events", f"/gradio_api/file={video}", f"/gradio_api/file/{video}"):
            status, body = house.bob.fetch(path, cookie=cookie)
            assert status == 401, (cookie, path)
            assert b"ftyp" not in body


# --- the page ---


def test_no_button_reaches_anothers_job(house: House) -> None:
    for job_id in (house.done, house.paused):
        for elem_id in ("i2v-cancel", "i2v-pause", "i2v-retry"):
            answer = house.bob.press(elem_id, "click", job_id, None, "en", session="bob1")
            assert answer.status_code == 200, answer.text
            assert f"There is no job “{job_id}”" in unescape(answer.text), elem_id
            assert "alert(1)" not in answer.text
        decoded_by = (8, "auto", "auto", "auto", *UNFINISHED)
        answer = house.bob.press("i2v-redecode", "click", job_id, None, "en", *decoded_by, session="bob1")
        assert f"There is no job “{job_id}”" in unescape(answer.text)
        for act in ("up", "down", "pause", "resume", "cancel", "retry"):
            answer = house.bob.press("i2v-queue-list", "click", None, "en", session="bob1", act=act, id=job_id)
            _, told, listed, *_ = answer.json()["data"]
            assert ("There is no job" in told) is (act not in ("up", "down")), act
            assert job_id not in listed
        answer = house.bob.press(
            "i2v-gallery-grid", "click", None, "en", *UNFILTERED, session="bob1", act="open", id=job_id
        )
        assert f"There is no job “{job_id}”" in unescape(answer.text)
        assert f"{job_id}/" not in answer.text
    assert house.ann.told("status", house.paused)["state"] == "paused"
    assert len(house.admin.told("list", 100)) == 3


def test_a_session_of_anothers_opens_nothing(house: House) -> None:
    """The opened video is kept by the server under the tab's own number, which Bob may have seen over a shoulder."""
    anything = (None, "en", *UNFILTERED)
    opened = house.ann.press("i2v-gallery-grid", "click", *anything, session="anns", act="open", id=house.done)
    assert f"{house.done}/video.mp4" in opened.text
    for elem_id in ("delete", "redecode", "unfinish", "finish-take", "finish-again"):
        more = UNFINISHED if elem_id == "finish-again" else ()
        answer = house.bob.press(f"i2v-gallery-{elem_id}", "click", *anything, *more, session="anns")
        assert "There is no job" in answer.text, elem_id
    for elem_id, more in (
        ("i2v-gallery-use", ()),
        ("i2v-gallery-continue", ()),
        ("i2v-gallery-write", ("gif", 8, "good", 1, 1, 1, 0)),
    ):
        answer = house.bob.press(elem_id, "click", None, "en", *more, session="anns")
        assert "There is no job" in answer.text, elem_id
        assert "alert(1)" not in answer.text
    assert (house.folder(house.done) / "video.mp4").is_file()


def test_only_the_admin_holds_everybodys_queue(house: House) -> None:
    for person, held in ((house.bob, False), (house.admin, True)):
        answer = person.press("i2v-queue-pause", "input", True, None, "en", session="q")
        assert answer.json()["data"][4] is held
        assert ("admin_password" in answer.text) is not held
    assert "Lend" not in house.bob.press("i2v-queue-lend", "click", None, "en", session="q").text
    assert house.admin.press("i2v-queue-pause", "input", False, None, "en", session="q").json()["data"][4] is False


class Parsed(HTMLParser):
    """What a browser makes of a text: the tags, the names of their attributes, and what is to be read."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def test_markup_in_prompts_and_file_names_is_shown_as_text(house: House) -> None:
    listed = house.ann.press("i2v-queue-list", "click", None, "en", session="m", act="", id="").json()["data"][2]
    anything = (None, "en", *UNFILTERED)
    opened = house.ann.press("i2v-gallery-grid", "click", *anything, session="m", act="open", id=house.done).json()
    told = house.ann.press("i2v-gallery-grid", "click", *anything, session="m", act="open", id=MARKUP).json()
    (uploaded,) = house.ann.http.post(
        "/gradio_api/upload", files={"files": ("<img src=x onerror=alert(3)>.jpg", b"no picture")}
    ).json()
    refused = house.ann.call("submit", {"path": uploaded, "meta": {"_type": "gradio.FileData"}}, SMALL)
    assert refused.status_code == 500
    assert "<img" not in refused.text
    parsed = Parsed()
    for part in (listed, *opened["data"], *told["data"]):
        parsed.feed(part if isinstance(part, str) else "")
    assert parsed.text.count(MARKUP) >= 3
    assert "script" not in parsed.tags
    assert not [name for name in parsed.attributes if name.startswith("on")]


# --- files ---


def spellings(path: Path, outputs: Path) -> Iterator[str]:
    """Ways to write the address of a file in `outputs`, as they go over the wire."""
    day, job_id, name = path.relative_to(outputs).parts
    plain = str(path)
    yield from (plain, f"/{plain}", f"//{plain}", plain.replace("/", "//"), plain.replace("/", "/./"), f"{plain}?v=1")
    yield from (plain.replace("/", "%2f"), plain.replace("/", "%2F"), plain.replace("-", "%2d"), f"{plain}#x")
    yield from (f"{outputs}/x/../{day}/{job_id}/{name}", f"{outputs}/{day}/x/%2e%2e/{job_id}/{name}")
    yield from (f"{outputs}/{day}/{job_id}/x/..%2f{name}", f"{outputs}/.i2v/../{day}/{job_id}/{name}")
    yield from (f"{outputs}/../{outputs.name}/{day}/{job_id}/{name}", f"/tmp/..{plain}", f"/proc/self/root{plain}")
    yield from (f"{outputs.name}/{day}/{job_id}/{name}", f"./{outputs.name}/{day}/{job_id}/{name}")
    yield from (f"/proc/self/cwd/{outputs.name}/{day}/{job_id}/{name}", f"%2e/{outputs.name}/{day}/{job_id}/{name}")
    yield from (f"{plain}/", f"{plain}%00", f"{plain}%0a", f"file://{plain}", plain.replace("/", "\\"))


def test_no_spelling_fetches_anothers_file(house: House) -> None:
    """Of Ann's own spellings most lead to her file; none of them leads Bob there."""
    routes = (
        "/gradio_api/file=",
        "/gradio_api/file/",
        "/gradio_api/file%3d",
        "//gradio_api/file=",
        "/gradio_api//file=",
    )
    hers = 0
    for job_id, names in ((house.done, ("video.mp4", "request.json", "input.png")), (house.paused, ("job.json",))):
        for name in names:
            path = house.folder(job_id) / name
            for route in routes:
                for spelling in spellings(path, house.outputs):
                    status, body = house.bob.fetch(route + spelling)
                    assert status >= 400, (route, spelling)
                    assert path.read_bytes()[:64] not in body
                    hers += house.ann.fetch(route + spelling) == (200, path.read_bytes())
    assert hers > 60
    video = house.folder(house.done) / "video.mp4"
    for headers in ({"Range": "bytes=0-3"}, {"Range": "bytes=0-"}):
        assert house.bob.fetch(f"/gradio_api/file={video}", **headers)[0] == 404
    assert house.bob.fetch(f"/gradio_api/file={house.folder(house.bobs)}/../{house.done}/video.mp4")[0] == 404
    assert house.bob.fetch(f"/gradio_api/file={house.folder(house.bobs)}/video.mp4")[0] == 200
    assert "'bob' asked for the file" in house.log()


def test_a_file_of_anothers_is_as_unknown_as_one_of_nobodys(house: House) -> None:
    video = house.folder(house.done) / "video.mp4"
    answers = {house.bob.fetch(f"/gradio_api/file={path}") for path in (video, str(video).replace(house.done, NOBODYS))}
    assert answers == {(404, b'{"detail":"Not found"}')}


@pytest.mark.parametrize("secret", ["jobs.sqlite", "app.log", "config.yaml", "passwd", "anothers"])
def test_no_file_parameter_leads_anywhere_else(house: House, secret: str) -> None:
    """The list, the log, the configuration, the system's files and Ann's video, named instead of uploaded."""
    root = Path(__file__).parents[1]
    path = {
        "jobs.sqlite": house.outputs / ".i2v" / "jobs.sqlite",
        "app.log": house.server.folder / "logs" / "app.log",
        "config.yaml": root / "config.yaml",
        "passwd": Path("/etc/passwd"),
        "anothers": house.folder(house.done) / "video.mp4",
    }[secret]
    assert path.is_file()
    uploads = house.server.folder / "uploads"
    up = "/".join([".."] * 12)
    for named in (str(path), f"{uploads}/{up}{path}", f"{uploads}/x/..//{up}{path}", f"{up}{path}", f"file://{path}"):
        assert house.bob.fetch(f"/gradio_api/file={quote(named)}")[0] in (403, 404), named
        for picture in ({"path": named}, {"path": named, "meta": {"_type": "gradio.FileData"}}):
            answer = house.bob.call("submit", picture, SMALL)
            assert answer.status_code == 400, named
            assert "ftyp" not in answer.text
            restored = house.bob.press("i2v-restore", "upload", picture, "en", session="f")
            assert restored.status_code == 400, named
            assert "alert(1)" not in restored.text
    assert len(house.bob.told("list", 100)) == 1


def test_an_export_writes_nowhere_else(house: House) -> None:
    before = {path for path in house.server.folder.rglob("*") if path.is_file() and path.suffix in (".gif", ".mp4")}
    house.bob.press("i2v-gallery-grid", "click", None, "en", *UNFILTERED, session="w", act="open", id=house.bobs)
    look = (1, 1, 1, 0)
    for format, quality in (("gif", "../../x"), ("../../x.gif", "good"), ("gif", "/tmp/x"), ("mp4/../../../x", "good")):
        house.bob.press("i2v-gallery-write", "click", None, "en", format, 8, quality, *look, session="w")
        assert house.bob.call("export", house.bobs, {"format": format, "quality": quality}).status_code == 500
    assert {p for p in house.server.folder.rglob("*") if p.is_file() and p.suffix in (".gif", ".mp4")} == before
    pressed = house.bob.press("i2v-gallery-write", "click", None, "en", "gif", 8, "good", *look, session="w")
    assert "video-8fps-good.gif" in pressed.text  # it does write where it may


def test_an_uploads_name_leads_nowhere(house: House) -> None:
    for name in ("../../../outputs/x.png", "/etc/x.png", "..\\..\\x.png", "%2e%2e%2fx.png"):
        (stored,) = house.bob.http.post("/gradio_api/upload", files={"files": (name, b"x")}).json()
        assert Path(stored).resolve().is_relative_to((house.server.folder / "uploads").resolve())


def test_links_are_judged_by_where_they_lead(tmp_path: Path) -> None:
    outputs, day = tmp_path / "outputs", tmp_path / "outputs" / "2026-11-20"
    (day / "anns").mkdir(parents=True)
    (day / "bobs").mkdir()
    (day / "anns" / "video.mp4").touch()
    (day / "bobs" / "link.mp4").symlink_to(day / "anns" / "video.mp4")
    (tmp_path / "also").symlink_to(outputs)
    assert job_in(str(day / "bobs" / "link.mp4"), outputs) == "anns"
    assert job_in(f"{tmp_path}/also/2026-11-20/anns/video.mp4", outputs) == "anns"
    assert job_in(f"{day}/bobs/../anns/nothing", outputs) == "anns"
    assert job_in(str(day), outputs) == job_in(str(day / "anns"), outputs) == job_in(str(outputs), outputs) == ""
    assert job_in(str(tmp_path / "elsewhere"), outputs) is None
    with pytest.raises(ValueError, match="null"):
        job_in(f"{day}/\0", outputs)
