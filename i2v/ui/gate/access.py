"""Who may see the page: everybody on this computer, and with a password whoever knows it on the network. And whose a
job is: `may_see` and `may` decide who sees and who steers it."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import math
import secrets
import time
import unicodedata
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from gradio.routes import App, Request
from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse

from i2v.settings.settings import Settings

log = logging.getLogger(__name__)

LOOPBACK = ("127.0.0.1", "localhost", "::1")
# The login page and what it is drawn with. Everything else asks for the login's cookie.
_OPEN = {"/", "/login", "/login/", "/healthz", "/config", "/config/", "/theme.css", "/gradio_api/theme.css"}
_OPEN |= {"/favicon.ico", "/manifest.json", "/robots.txt", "/gradio_api/app_id", "/gradio_api/login_check"}
_OPEN_FOLDERS = ("/assets/", "/static/", "/svelte/")
LOGIN = ("/login", "/login/")
LOGOUT = ("/logout", "/logout/")

FREE_FAILURES = 5  # a person who looks for the right password; after them waits begin
LONGEST_WAIT = 60.0  # seconds
FORGET_SECONDS = 900.0  # since the last try
CLIENTS_KEPT = 4096  # of more, those whose last try is longest ago are forgotten

LOCAL = "local"
"""The owner of what is sent from this computer by nobody in particular; no login has this name."""
ADMIN = "admin"
"""The login that sees and steers every job."""
GUEST = "guest"
"""The login that sees every job and steers none."""
LONGEST_NAME = 80  # characters

Scope = MutableMapping[str, Any]
ASGI = Callable[[Scope, Callable[[], Awaitable[Scope]], Callable[[Scope], Awaitable[None]]], Awaitable[None]]


def password_for(settings: Settings) -> str | None:
    """The password to ask for: the person's own, a new one for a page open to the network, none on this computer."""
    if settings.password:
        return settings.password
    return None if settings.host in LOOPBACK else secrets.token_urlsafe(9)


def admits(
    name: str, given: str, password: str | None, admin_password: str | None, guest_password: str | None = None
) -> bool:
    """Whether a login with the password `given` is right. Any name will do but those that stand for somebody else,
    however they are written; ADMIN and GUEST have passwords of their own, and without one there is no such login."""
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        return False
    wanted = password
    if unicodedata.normalize("NFKC", name).strip().casefold() in (ADMIN, LOCAL, GUEST):
        wanted = {ADMIN: admin_password, GUEST: guest_password}.get(name)
    return bool(wanted) and secrets.compare_digest(given.encode(), str(wanted).encode())


def may(owner_of_job: str, who: str) -> bool:
    """Whether `who` may steer a job of `owner_of_job`."""
    return who == owner_of_job or steers_all(who)


def may_see(owner_of_job: str, who: str) -> bool:
    """Whether `who` may see a job of `owner_of_job`, and its files."""
    return who == owner_of_job or sees_all(who)


def steers_all(who: str) -> bool:
    """Whether every job is for `who` to steer: the admin's, and this computer's own on a page without a login.
    `admits` gives neither name to anybody else."""
    return who in (ADMIN, LOCAL)


def sees_all(who: str) -> bool:
    """Whether every job is for `who` to see."""
    return steers_all(who) or who == GUEST


def owner_of(request: Request | None) -> str:
    """Whose a job is: the name of the login, else LOCAL for this computer and the address of any other."""
    if request is None:
        return LOCAL
    if getattr(request, "username", None) is not None:
        return str(request.username)
    client = getattr(request, "client", None)
    return _owner_at(client.host) if client else LOCAL


def _owner_at(host: str) -> str:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # a socket file has no address
        return host or LOCAL
    address = getattr(address, "ipv4_mapped", None) or address
    return LOCAL if address.is_loopback else str(address)


class RequireLogin:
    """ASGI layer that lets nobody past without Gradio's login cookie, on any route.

    Gradio guards most of its own routes by itself; this leaves none to chance, now or in its next version. Passwords
    that are tried one after the other wait for their turn, here, since Gradio does not say who tries them.
    """

    def __init__(self, app: ASGI, gradio_app: App) -> None:
        self.app = app
        self.gradio_app = gradio_app
        self.attempts = Attempts()
        self._waiting: set[str] = set()

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in LOGIN:
            await self._try_password(scope, receive, send)
        elif scope["type"] == "lifespan" or self._allowed(scope):
            leaves = scope["type"] == "http" and scope["path"] in LOGOUT
            await (self._sign_out if leaves else self.app)(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await refuse(send, 401, b'{"detail":"Not authenticated"}')

    async def _try_password(self, scope: Scope, receive: Any, send: Any) -> None:
        """One try at a time waits for its turn: the login page, which knows no such answer as 429, then only seems
        slow. More at once from the same client are refused."""
        client = client_of(scope)
        wait = self.attempts.wait(client)
        if wait > 0 and client in self._waiting:
            await refuse(send, 429, b'{"detail":"Too many tries"}', (b"retry-after", b"%d" % math.ceil(wait)))
            return
        if wait > 0:
            self._waiting.add(client)
            try:
                await asyncio.sleep(wait)
            finally:
                self._waiting.discard(client)
        failures = self.attempts.begin(client)

        async def heard(answer: Scope) -> None:
            if answer["type"] == "http.response.start":
                if answer["status"] == 200:
                    self.attempts.succeeded(client)
                else:
                    log.warning("Login refused: %s, %d in a row", client, failures)
            await send(answer)

        await self.app(scope, receive, heard)

    async def _sign_out(self, scope: Scope, receive: Any, send: Any) -> None:
        """End this login alone. Gradio's own route ends every login of that name, on whichever computer it is."""
        answer, cookies = RedirectResponse("./", status_code=302), HTTPConnection(scope).cookies
        for name in cookie_names(self.gradio_app):
            self.gradio_app.tokens.pop(cookies.get(name), None)
            answer.delete_cookie(name, path="/")
        await answer(scope, receive, send)

    def _allowed(self, scope: Scope) -> bool:
        path = scope["path"]
        # A path with ".." is never open by its beginning: where it leads is only known after it is resolved.
        if ".." not in path and (path in _OPEN or path.startswith(_OPEN_FOLDERS)):
            return True
        return user_of(scope, self.gradio_app) is not None


def user_of(scope: Scope, gradio_app: App) -> str | None:
    """The login's name, read from the same cookie as Gradio reads it: nobody passes as one and is seen as another."""
    cookies = HTTPConnection(scope).cookies
    token = next((cookies[name] for name in cookie_names(gradio_app) if cookies.get(name)), None)
    return gradio_app.tokens.get(token) if token else None


def cookie_names(gradio_app: App) -> tuple[str, str]:
    """Under which Gradio gives the same token: the browser sends the first over https, the second over http too."""
    return f"access-token-{gradio_app.cookie_id}", f"access-token-unsecure-{gradio_app.cookie_id}"


def who_asks(scope: Scope, gradio_app: App) -> str:
    """Whose the jobs are that come with this request; as `owner_of` says it of Gradio's."""
    user = user_of(scope, gradio_app)
    if user is not None:
        return user
    client = scope.get("client")
    return _owner_at(client[0]) if client else LOCAL


@dataclass
class _Tries:
    failures: int
    next_at: float
    last_at: float


class Attempts:
    """Tries at the password by client. After FREE_FAILURES in a row the next one has to wait, a second at first and
    twice as long after each, up to LONGEST_WAIT. A success begins anew. `clock` counts seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tries: OrderedDict[str, _Tries] = OrderedDict()  # the last try longest ago comes first

    def __len__(self) -> int:
        return len(self._tries)

    def wait(self, client: str) -> float:
        """Seconds until this client may try, 0 for now."""
        tries = self._tries.get(client)
        return max(0.0, tries.next_at - self._clock()) if tries else 0.0

    def begin(self, client: str) -> int:
        """A try begins. It counts as failed until it succeeds: of many at once all are counted. Returns the failures
        in a row, with this one."""
        now = self._clock()
        while self._tries and now - next(iter(self._tries.values())).last_at > FORGET_SECONDS:
            self._tries.popitem(last=False)
        earlier = self._tries.pop(client, None)
        failures = earlier.failures + 1 if earlier else 1
        wait = min(2.0 ** min(failures - FREE_FAILURES, 10), LONGEST_WAIT) if failures >= FREE_FAILURES else 0.0
        self._tries[client] = _Tries(failures, now + wait, now)
        while len(self._tries) > CLIENTS_KEPT:
            self._tries.popitem(last=False)
        return failures

    def succeeded(self, client: str) -> None:
        """The password was right."""
        self._tries.pop(client, None)


def client_of(scope: Scope) -> str:
    """Who asks: the address; of IPv6 the network, since one machine has as many addresses in it as it likes."""
    host = (scope.get("client") or ("",))[0]
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:  # a socket file has no address
        return host
    address = getattr(address, "ipv4_mapped", None) or address
    return str(address) if address.version == 4 else str(ipaddress.ip_network((address, 64), strict=False))


async def refuse(send: Any, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    """Answer a request with `status` and `body`, which is JSON."""
    length = str(len(body)).encode()
    all_headers = [(b"content-type", b"application/json"), (b"content-length", length), *headers]
    await send({"type": "http.response.start", "status": status, "headers": all_headers})
    await send({"type": "http.response.body", "body": body})
