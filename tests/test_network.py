"""The page on the network: who is told its address, https, and passwords tried one after the other."""

from __future__ import annotations

import io
import logging
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from machines import settings
from page_server import page_server
from starlette.responses import JSONResponse
from test_qr import read

from i2v.messages import LOCALES, UserError
from i2v.ui.gate import announce as announcing
from i2v.ui.gate.access import (
    CLIENTS_KEPT,
    FORGET_SECONDS,
    FREE_FAILURES,
    LONGEST_WAIT,
    Attempts,
    RequireLogin,
    client_of,
)
from i2v.ui.gate.announce import announce, lan_host, qr_lines, url_of
from i2v.ui.gate.tls import certificate

pytestmark = pytest.mark.drives

LAN = "192.168.7.23"
PASSWORD = "open sesame"


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def said(out: io.StringIO, monkeypatch: pytest.MonkeyPatch, password: str | None = PASSWORD, **more: Any) -> str:
    monkeypatch.setattr(announcing, "lan_host", lambda host: LAN if host == "0.0.0.0" else None)
    monkeypatch.setenv("TERM", "xterm-256color")
    announce(settings(**more), 7860, password, "en", out)
    return out.getvalue()


def codes(text: str) -> list[str]:
    """The lines of the QR code in what a terminal was sent."""
    return re.findall(r"\x1b\[38;5;16;48;5;231m(.*)\x1b\[0m", text)


# --- what the terminal says ---


@pytest.mark.parametrize("secure", [False, True])
def test_a_page_for_the_network_shows_its_address_there_and_as_a_code(
    secure: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = {"tls_cert": "cert.pem", "tls_key": "key.pem"} if secure else {}
    text = said(Terminal(), monkeypatch, host="0.0.0.0", **tls)
    scheme = "https" if secure else "http"
    assert f"{scheme}://127.0.0.1:7860\n" in text
    assert f"{scheme}://{LAN}:7860\n" in text
    assert PASSWORD in text
    assert read(codes(text)) == f"{scheme}://{LAN}:7860"  # and so not the password


def test_a_page_for_this_computer_shows_no_code(monkeypatch: pytest.MonkeyPatch) -> None:
    text = said(Terminal(), monkeypatch, password=None)
    assert "http://127.0.0.1:7860" in text
    assert "network" not in text
    assert codes(text) == []


def test_what_is_no_terminal_gets_words_only(monkeypatch: pytest.MonkeyPatch) -> None:
    text = said(io.StringIO(), monkeypatch, host="0.0.0.0")
    assert f"http://{LAN}:7860" in text
    assert "\x1b" not in text
    assert not set("▀▄█") & set(text)
    narrow, latin, dumb = Terminal(), Terminal(), Terminal()
    monkeypatch.setenv("COLUMNS", "30")

    assert qr_lines(f"http://{LAN}:7860", narrow) == []
    monkeypatch.setenv("COLUMNS", "80")
    latin.encoding = "iso-8859-1"
    assert qr_lines(f"http://{LAN}:7860", latin) == []
    monkeypatch.setenv("TERM", "dumb")
    assert qr_lines(f"http://{LAN}:7860", dumb) == []


def test_the_address_in_the_network_is_one_that_this_machine_has() -> None:
    for host in ("127.0.0.1", "localhost", "::1", "127.0.0.9"):
        assert lan_host(host) is None
    assert lan_host(LAN) == LAN
    assert lan_host("i2v.example") == "i2v.example"
    found = lan_host("0.0.0.0")
    if found is not None:
        with socket.socket() as own:
            own.bind((found, 0))  # only an address of this machine can be bound
        assert not found.startswith("127.")


def test_addresses_are_written_as_browsers_take_them() -> None:
    assert url_of("::1", 80, secure=False) == "http://[::1]:80"
    assert url_of("box", 443, secure=True) == "https://box:443"


# --- https ---


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(key), "-out", str(cert), "-subj", "/CN=box", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    return cert, key


def refused(**keys: Path | None) -> UserError:
    with pytest.raises(UserError) as told:
        certificate(settings(**keys))
    assert all(told.value.message.render(locale) for locale in LOCALES)
    return told.value


def test_a_certificate_that_is_of_no_use_is_told_of(pair: tuple[Path, Path], tmp_path: Path) -> None:
    cert, key = pair
    assert certificate(settings()) is None
    assert certificate(settings(tls_cert=cert, tls_key=key)) == pair
    assert "tls_key is not" in str(refused(tls_cert=cert))
    assert "tls_cert is not" in str(refused(tls_key=key))
    assert "No such file" in str(refused(tls_cert=cert, tls_key=tmp_path / "none.pem"))
    assert "directory" in str(refused(tls_cert=tmp_path, tls_key=key))
    (tmp_path / "text.pem").write_text("no certificate")
    assert "PEM" in str(refused(tls_cert=tmp_path / "text.pem", tls_key=key))
    swapped = refused(tls_cert=key, tls_key=cert)
    assert swapped.message.id == "ui.tls_wrong"
    other, locked = tmp_path / "other.pem", tmp_path / "locked.pem"
    subprocess.run(["openssl", "ecparam", "-genkey", "-name", "prime256v1", "-out", other], check=True)
    assert "MISMATCH" in str(refused(tls_cert=cert, tls_key=other)).upper()
    command = ["openssl", "pkcs8", "-topk8", "-in", key, "-out", locked, "-passout", "pass:secret"]
    subprocess.run(command, check=True)
    assert "passphrase" in str(refused(tls_cert=cert, tls_key=locked)).split(":")[-1]


def test_the_page_is_served_over_https(pair: tuple[Path, Path], tmp_path: Path) -> None:
    cert, key = pair
    with page_server(tmp_path, environ={"I2V_TLS_CERT": str(cert), "I2V_TLS_KEY": str(key)}, cert=cert) as server:
        assert server.url.startswith("https://")
        trusting = ssl.create_default_context(cafile=str(cert))
        with httpx.Client(verify=trusting, trust_env=False) as client:
            assert client.get(f"{server.url}/healthz").json() == {"status": "ok"}
            assert client.get(server.url).status_code == 200
        with httpx.Client(trust_env=False) as plain, pytest.raises(httpx.HTTPError):
            plain.get(server.url.replace("https", "http"))
        assert server.url in server.output.read_text()


# --- passwords tried one after the other ---


class _Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_waits_begin_after_five_failures_and_grow_to_a_minute() -> None:
    clock = _Clock()
    attempts, waits = Attempts(clock), []
    for _ in range(14):
        attempts.begin("a")
        waits.append(attempts.wait("a"))
        clock.now += waits[-1]
    assert waits == [0] * (FREE_FAILURES - 1) + [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]
    assert attempts.wait("b") == 0
    attempts.succeeded("a")
    assert attempts.wait("a") == 0
    assert attempts.begin("a") == 1


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.floats(0, 30)), max_size=60))
def test_no_order_of_tries_gives_a_client_more_than_its_share(tries: list[tuple[str, bool, float]]) -> None:
    """Without a success nobody gets more than five tries and one for each wait, whoever else tries meanwhile."""
    clock = _Clock()
    attempts, made = Attempts(clock), {name: [] for name in "abc"}
    for client, right, pause in tries:
        clock.now += pause
        if attempts.wait(client) == 0:
            attempts.begin(client)
            made[client].append(clock.now)
            if right:
                attempts.succeeded(client)
                made[client].clear()
    for times in made.values():
        for count, (earlier, later) in enumerate(pairwise(times), start=1):
            least = min(2.0 ** (count - FREE_FAILURES), LONGEST_WAIT) if count >= FREE_FAILURES else 0
            assert later - earlier >= least - 1e-9


def test_old_failures_are_forgotten_and_memory_is_bounded() -> None:
    clock = _Clock()
    attempts = Attempts(clock)
    for number in range(CLIENTS_KEPT + 50):
        attempts.begin(f"10.0.{number // 256}.{number % 256}")
    assert len(attempts) == CLIENTS_KEPT
    clock.now += FORGET_SECONDS + 1
    assert attempts.begin("a") == 1
    assert len(attempts) == 1


def test_one_machine_with_many_addresses_is_one_client() -> None:
    def client(host: str) -> str:
        return client_of({"client": (host, 1)})

    assert client("2001:db8:1:2:3::4") == client("2001:db8:1:2:ffff::1") != client("2001:db8:1:3::1")
    assert client("::ffff:10.0.0.1") == client("10.0.0.1") != client("10.0.0.2")
    assert client("fe80::1%eth0") == client("fe80::2")
    assert client_of({"client": None}) == client_of({}) == ""


class _Gradio:
    """As much of Gradio's app as the layer asks."""

    cookie_id = "x"
    tokens: ClassVar[dict[str, str]] = {}


@contextmanager
def login_server() -> Iterator[str]:
    """A login over a real socket, behind the layer: Gradio's own answers."""
    app = FastAPI()

    @app.post("/login")
    def login(password: str) -> JSONResponse:
        return JSONResponse({}, 200 if password == PASSWORD else 400)

    server = uvicorn.Server(uvicorn.Config(RequireLogin(app, _Gradio()), log_level="error", port=0))  # type: ignore[arg-type]
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(120)


def test_over_the_wire_a_guesser_waits_and_is_logged_without_what_was_guessed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with login_server() as url, httpx.Client(base_url=url, trust_env=False) as client:

        def status_of(password: str) -> int:
            return client.post("/login", params={"password": password}).status_code

        with caplog.at_level(logging.WARNING, logger="i2v.ui.gate.access"):
            started = time.monotonic()
            assert [status_of(f"guess{n}") for n in range(FREE_FAILURES)] == [400] * FREE_FAILURES
            assert time.monotonic() - started < FREE_FAILURES  # each would have waited a second or more
            with ThreadPoolExecutor(6) as many:
                at_once = sorted(many.map(status_of, [f"guess{n}" for n in range(6)]))
            assert at_once == [400] + [429] * 5
            waited = time.monotonic() - started
            assert waited >= 1
            assert status_of(PASSWORD) == 200
            assert time.monotonic() - started >= waited + 1.9  # the right one waited too, for two seconds
            assert [status_of("wrong") for _ in range(FREE_FAILURES - 1)] == [400] * (FREE_FAILURES - 1)
        lines = [record.getMessage() for record in caplog.records]
        assert len(lines) == FREE_FAILURES + 1 + FREE_FAILURES - 1
        assert all("127.0.0.1" in line for line in lines)
        assert not [line for line in lines if "guess" in line or "wrong" in line or PASSWORD in line]
