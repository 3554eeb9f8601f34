"""Who may see the page: everybody on this computer, and with a password whoever knows it on the network."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import SimpleCookie
from typing import Any

from gradio.routes import App

from i2v.settings import Settings

LOOPBACK = ("127.0.0.1", "localhost", "::1")
# The login page and what it is drawn with. Everything else asks for the login's cookie.
_OPEN = {"/", "/login", "/login/", "/healthz", "/config", "/config/", "/theme.css", "/gradio_api/theme.css"}
_OPEN |= {"/favicon.ico", "/manifest.json", "/robots.txt", "/gradio_api/app_id", "/gradio_api/login_check"}
_OPEN_FOLDERS = ("/assets/", "/static/", "/svelte/")

_Message = MutableMapping[str, Any]
_ASGI = Callable[[_Message, Callable[[], Awaitable[_Message]], Callable[[_Message], Awaitable[None]]], Awaitable[None]]


def password_for(settings: Settings) -> str | None:
    """The password to ask for: the person's own, a new one for a page open to the network, none on this computer."""
    if settings.password:
        return settings.password
    return None if settings.host in LOOPBACK else secrets.token_urlsafe(9)


class RequireLogin:
    """ASGI layer that lets nobody past without Gradio's login cookie, on any route.

    Gradio guards most of its own routes by itself; this leaves none to chance, now or in its next version.
    """

    def __init__(self, app: _ASGI, gradio_app: App) -> None:
        self.app = app
        self.gradio_app = gradio_app

    async def __call__(self, scope: _Message, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan" or self._allowed(scope):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            headers = [(b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            await send({"type": "http.response.body", "body": b'{"detail":"Not authenticated"}'})

    def _allowed(self, scope: _Message) -> bool:
        path = scope["path"]
        # A path that climbs is judged by nobody: what it ends at is decided further in.
        if ".." not in path and (path in _OPEN or path.startswith(_OPEN_FOLDERS)):
            return True
        cookies = SimpleCookie()
        for name, value in scope["headers"]:
            if name == b"cookie":
                cookies.load(value.decode("latin-1"))
        names = (f"access-token-{self.gradio_app.cookie_id}", f"access-token-unsecure-{self.gradio_app.cookie_id}")
        return any(name in cookies and cookies[name].value in self.gradio_app.tokens for name in names)
