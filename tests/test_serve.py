"""The server: whom it lets in, as whom, at which port, and what it refuses."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from fastapi.testclient import TestClient
from jobs_support import settings_in
from page_support import scripted_service

from i2v.jobs.service import JobService
from i2v.messages import LOCALES, UserError, message
from i2v.settings.settings import ROOT
from i2v.ui.gate.access import owner_of, password_for
from i2v.ui.gate.login import login_message
from i2v.ui.gate.secret import browser_secret
from i2v.ui.gate.visitor import ADMINS, STEERING, visitor_line
from i2v.ui.serve import build_app, open_port


@pytest.fixture
def service(tmp_path: Path) -> Iterator[JobService]:
    with scripted_service(tmp_path) as running:
        yield running


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize(("who", "hidden"), [("admin", ()), ("ann", ADMINS), ("guest", (*ADMINS, *STEERING))])
def test_a_login_is_named_may_leave_and_is_offered_what_it_may_do(who: str, hidden: tuple, locale: str) -> None:
    shown = visitor_line(who, locale)
    assert f'{who} · <a href="logout">' in shown
    (style,) = re.findall(r"<style>([^{]*) { display: none", shown) or [""]
    assert style == ", ".join(hidden)
    assert "&lt;b&gt;" in visitor_line("<b>", locale)


def test_a_job_belongs_to_whoever_sent_it() -> None:
    def asked(host: str | None, name: str | None = None) -> str:
        client = SimpleNamespace(host=host) if host else None
        return owner_of(SimpleNamespace(username=name, client=client))  # type: ignore[arg-type]

    assert [asked(host) for host in ("127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", None)] == ["local"] * 5
    assert [asked(host) for host in ("192.168.1.7", "::ffff:10.0.0.9", "fe80::1")] == [
        "192.168.1.7",
        "10.0.0.9",
        "fe80::1",
    ]
    assert asked("192.168.1.7", "ann") == asked("127.0.0.1", "ann") == "ann"
    assert owner_of(None) == "local"


def get_routes(client: TestClient) -> Iterator[tuple[str, str]]:
    """Every route below the mounted page with plain values in its places: (method, path)."""
    routes = [*client.app.routes[-1].app.routes]
    for included in [route for route in routes if hasattr(route, "original_router")]:
        routes += included.original_router.routes
    for route in routes:
        path = re.sub(r"\{[^}]*\}", "x", getattr(route, "path", ""))
        for method in sorted((getattr(route, "methods", None) or {"GET"}) - {"HEAD", "OPTIONS"}):
            yield method, path


def test_with_a_password_no_route_answers_a_stranger(service: JobService, tmp_path: Path) -> None:
    settings, probe = settings_in(tmp_path, password="open sesame")
    app = build_app(service, settings, probe, password_for(settings))
    open_paths = re.compile(r"/?(|login/?|config/?|theme\.css|favicon\.ico|manifest\.json|robots\.txt|healthz)$")
    open_gradio = re.compile(r"/gradio_api/(theme\.css|app_id|login_check)/?$")
    client = TestClient(app, follow_redirects=False)
    tried = 0
    for method, path in get_routes(client):
        if open_paths.match(path) or open_gradio.match(path) or path.startswith(("/assets/", "/static/", "/svelte/")):
            continue
        tried += 1
        assert client.request(method, path).status_code == 401, (method, path)
    assert tried > 30
    assert client.get("/gradio_api/../gradio_api/info").status_code == 401
    assert client.get("/config").status_code == 401
    assert "i2v-generate" not in client.get("/").text
    assert client.post("/login", data={"username": "me", "password": "wrong"}).status_code == 400
    assert client.post("/login", data={"username": "me", "password": "open sesame"}).status_code == 200
    assert client.get("/gradio_api/info").status_code == 200


def test_signing_out_ends_this_login_and_no_other_of_that_name(service: JobService, tmp_path: Path) -> None:
    settings, probe = settings_in(tmp_path, password="open sesame")
    app = build_app(service, settings, probe, password_for(settings))
    here, there = (TestClient(app, follow_redirects=False) for _ in range(2))
    for client in (here, there):
        client.post("/login", data={"username": "me", "password": "open sesame"})
    kept = dict(here.cookies)
    left = here.get("/logout")
    assert (left.status_code, left.headers["location"]) == (302, "./")
    assert not here.cookies
    assert TestClient(app, cookies=kept).get("/gradio_api/info").status_code == 401
    assert there.get("/gradio_api/info").status_code == 200


def test_the_login_page_has_the_products_name_and_the_readers_language(tmp_path: Path) -> None:
    settings, _ = settings_in(tmp_path)
    english, chinese = (message("ui.login").render(locale) for locale in LOCALES)
    both = login_message(replace(settings, language="auto"))
    assert re.findall(r'<span class="i2v-said" lang="([^"]+)">', both) == list(LOCALES)
    assert "<title>I2V</title>" in both
    one = login_message(replace(settings, language="zh-CN"))
    assert (english in both, chinese in both, english in one, chinese in one) == (True, True, False, True)


def test_a_password_is_asked_for_on_the_network_only(tmp_path: Path) -> None:
    settings, _ = settings_in(tmp_path)
    assert password_for(settings) is None
    made = {password_for(replace(settings, host="0.0.0.0")) for _ in range(3)}
    assert len(made) == 3
    assert min(map(len, made)) >= 12
    assert password_for(replace(settings, password="mine", host="0.0.0.0")) == "mine"


def test_a_chosen_port_is_that_port_or_an_error_and_the_default_moves_on(tmp_path: Path) -> None:
    settings, _ = settings_in(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        chosen = replace(settings, port=port, sources={**settings.sources, "port": "command line"})
        with pytest.raises(UserError, match=str(port)):
            open_port(chosen)
        moved = replace(chosen, sources={**settings.sources, "port": "default"})
        with open_port(moved) as listener:
            assert port < listener.getsockname()[1] < port + 20
    with pytest.raises(UserError, match=r"203\.0\.113\.7"):
        open_port(replace(settings, host="203.0.113.7", port=port))


def test_the_browser_key_outlives_a_start(tmp_path: Path) -> None:
    kept = browser_secret(tmp_path / "cache")
    assert browser_secret(tmp_path / "cache") == kept
    assert (tmp_path / "cache" / "browser_secret").stat().st_mode & 0o077 == 0
    (tmp_path / "file").write_text("")
    assert browser_secret(tmp_path / "file") != kept


def test_the_page_loads_nothing_heavy() -> None:
    code = "import sys, i2v.ui.serve; print([m for m in ('torch', 'diffusers', 'transformers') if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_an_upload_beyond_the_limit_is_refused(service: JobService, tmp_path: Path) -> None:
    settings, probe = settings_in(tmp_path, max_upload_mb=1)
    client = TestClient(build_app(service, settings, probe, None), base_url="http://127.0.0.1")

    def status_of(size: int) -> int:
        return client.post("/gradio_api/upload", files={"files": ("p.jpg", b"x" * size)}).status_code

    assert status_of(2**19) == 200
    assert status_of(2**20 + 2**19) == 413
