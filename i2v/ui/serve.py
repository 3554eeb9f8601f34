"""Serves the page: its own small web server with the Gradio app mounted, /healthz, a login for the network.

Mounting, rather than Gradio's `launch`, makes no call to itself at start, and so starts behind any proxy.
"""

from __future__ import annotations

import errno
import gc
import importlib.util
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import uvicorn
from fastapi import FastAPI
from gradio.utils import get_upload_folder
from starlette.middleware.trustedhost import TrustedHostMiddleware

from i2v.hardware.probe import MemoryProbe
from i2v.jobs.asked.plans import Plans
from i2v.jobs.job.stored import hidden_folder
from i2v.jobs.process.warm import WarmParent
from i2v.jobs.service import JobService
from i2v.messages import UserError, best_locale
from i2v.planning.load import Processor
from i2v.settings.settings import ROOT, Settings
from i2v.ui.gate.access import LOOPBACK, RequireLogin, admits, password_for
from i2v.ui.gate.announce import announce, own_url
from i2v.ui.gate.intake import Intake
from i2v.ui.gate.login import login_message
from i2v.ui.gate.own import OwnFiles
from i2v.ui.gate.tls import certificate
from i2v.ui.page import build_page
from i2v.ui.texts import build_i18n, head_script
from i2v.ui.theme import build_theme

_TAKEN = (errno.EADDRINUSE, errno.EACCES) if os.name == "nt" else (errno.EADDRINUSE,)
RESTART = 42  # the exit code by which start_app.sh knows to start again
PORTS_TRIED = 20
FOLLOWERS = 256  # clients that may follow jobs at once; Gradio gives each a place in its queue, and has 40 of its own
MCP_REQUIREMENTS = ROOT / "requirements-mcp.txt"
_STYLE = Path(__file__).with_name("style.css")


def serve(settings: Settings, probe: MemoryProbe, *, mcp: bool = False) -> int:
    """Serve the page until Ctrl-C; the worker ends with it. `mcp`: the named endpoints as tools of the Model Context
    Protocol too. Returns the exit code: 0, or 42 after SIGHUP, which asks for a restart. Raises UserError when the
    address or port cannot be had, the certificate is of no use, or `mcp` cannot be."""
    tls = certificate(settings)
    if mcp:
        check_mcp(settings)
    listener = open_port(settings)
    password = password_for(settings)
    settings = replace(settings, listed_models_only=password is not None)
    warm = WarmParent()
    service = JobService(settings, probe, start=warm.start, plans=Plans.of(settings, warm.start, Processor()))
    try:
        app = build_app(service, settings, probe, password, mcp=mcp)
        threading.Thread(target=service.get_ready, name="planning", daemon=True).start()
        server = _Server(
            uvicorn.Config(
                app, workers=1, log_level="warning", timeout_graceful_shutdown=1, access_log=False,
                ssl_certfile=tls and tls[0], ssl_keyfile=tls and tls[1],
            )
        )  # fmt: skip
        leave_out_what_stays()
        service.serving_at(own_url(settings, listener.getsockname()[1]))
        announce(settings, listener.getsockname()[1], password, _locale(settings), sys.stdout, mcp=mcp)
        server.run(sockets=[listener])
        return server.exit_code
    finally:
        warm.close()  # first, or closing the service would wait for its imports
        service.close()
        listener.close()


def leave_out_what_stays() -> None:
    """Have garbage be looked for among what comes from now on: to look at all that was imported and built as well takes
    a tenth of a second, in the middle of somebody's click."""
    gc.collect()
    gc.freeze()


def check_mcp(settings: Settings) -> None:
    """Raises UserError where the tools cannot be served: without the package, which the app itself does not need; and
    on a page with a login, since the protocol's clients send no cookie and Gradio runs their calls as nobody's."""
    if password_for(settings) is not None:
        raise UserError("ui.mcp_password")
    if importlib.util.find_spec("mcp") is None:
        raise UserError("ui.mcp_missing", command=f"{sys.executable} -m pip install -r {MCP_REQUIREMENTS}")


def build_app(
    service: JobService, settings: Settings, probe: MemoryProbe, password: str | None, *, mcp: bool = False
) -> FastAPI:
    """The whole web app: page, endpoints, /healthz; behind a login when there is a password."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    def login(name: str, given: str) -> bool:
        return admits(name, given, password, settings.admin_password, settings.guest_password)

    outputs = settings.outputs_dir.resolve()
    page = build_page(service, settings, probe)
    page.max_threads = FOLLOWERS
    page.queue()
    gr.mount_gradio_app(
        app,
        page,
        path="/",
        auth=login if password else None,
        auth_message=login_message(settings),
        allowed_paths=[str(outputs)],
        # The list of jobs, the bin and the cache lie in there too, and no client may fetch them.
        blocked_paths=[str(hidden_folder(outputs))],
        max_file_size=f"{settings.max_upload_mb}mb",
        i18n=build_i18n(),
        theme=build_theme(),
        css=_STYLE.read_text(encoding="utf-8"),
        head=head_script(settings),
        # Without "settings": a second list of languages, and a recorder of the screen.
        footer_links=["api"],
        run_history=False,
        ssr_mode=False,
        mcp_server=mcp,
        pwa=False,
        enable_monitoring=False,
    )
    # Gradio checks that a named file was uploaded only where `launch` was called; without this a client could hand in
    # any picture of this computer by its path.
    page.has_launched = True
    mounted: Any = app.routes[-1]
    app.add_middleware(OwnFiles, gradio_app=mounted.app, service=service, outputs=outputs)
    if password:
        app.add_middleware(RequireLogin, gradio_app=mounted.app)
    else:
        # Without a password only this computer may ask. A website whose name is made to point here (DNS rebinding)
        # asks from this computer too, but under its own name.
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*LOOPBACK, "[::1]"])
    app.add_middleware(Intake, uploads=get_upload_folder, locale=_locale(settings))
    return app


def open_port(settings: Settings) -> socket.socket:
    """A socket that listens where the settings say. A port that somebody chose is that one or an error; the
    default gives way to the next free one. Raises UserError."""
    host, wanted = settings.host, settings.port
    chosen = settings.sources["port"].startswith(("command line", "environment"))
    last = wanted if chosen else min(wanted + PORTS_TRIED - 1, 65535)
    for port in range(wanted, last + 1):
        listener = _listen(host, port)
        if listener:
            return listener
    if chosen:
        raise UserError("ui.port_taken", host=host, port=wanted)
    raise UserError("ui.no_port", host=host, first=wanted, last=last)


def _listen(host: str, port: int) -> socket.socket | None:
    """A bound socket, or None where the port is taken."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except socket.gaierror as error:
        raise UserError("ui.cannot_listen", host=host, problem=error.strerror) from error
    listener = socket.socket(family, socket.SOCK_STREAM)
    if os.name != "nt":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        if error.errno in _TAKEN:
            return None
        raise UserError("ui.cannot_listen", host=host, problem=error.strerror or str(error)) from error
    return listener


class _Server(uvicorn.Server):
    """Ends by signal with an exit code instead of dying of the signal, so that what comes after still runs."""

    exit_code = 0

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
        earlier = {number: signal.signal(number, self._stop) for number in (getattr(signal, name) for name in names)}
        try:
            yield
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)

    def _stop(self, number: int, _frame: Any) -> None:
        if number == getattr(signal, "SIGHUP", None):
            self.exit_code = RESTART
        # Open pages hold their event streams for ever; that these are cut now is no news to anybody.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        self.handle_exit(number, None)


def _locale(settings: Settings) -> str:
    """The terminal's language: the settings', else the system's."""
    return settings.language if settings.language != "auto" else best_locale(os.environ.get("LANG"))
