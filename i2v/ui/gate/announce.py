"""What the terminal says of a page that is served: its addresses, a QR code of the one for others, the password."""

from __future__ import annotations

import ipaddress
import os
import shutil
import socket
from contextlib import suppress
from typing import TextIO

import psutil

from i2v.messages import message
from i2v.settings.settings import Settings
from i2v.ui.gate.access import LOOPBACK
from i2v.ui.gate.qr import QUIET, encode, half_blocks

# Addresses for documentation (RFC 5737, RFC 3849), which nobody has. To ask for the way there sends nothing.
_FAR_AWAY = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}
MCP_PATH = "/gradio_api/mcp/"
_EVERYWHERE = {"0.0.0.0": socket.AF_INET, "::": socket.AF_INET6}
# Black on white of the fixed part of a terminal's 256 colours: a theme may turn the first sixteen into anything.
_INK, _PLAIN = "\x1b[38;5;16;48;5;231m", "\x1b[0m"


def url_of(host: str, port: int, *, secure: bool) -> str:
    """The page's address at `host`, a name or an address of either kind."""
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if secure else 'http'}://{shown}:{port}"


def own_url(settings: Settings, port: int) -> str:
    """The page's address as this computer calls it."""
    host = "127.0.0.1" if settings.host in _EVERYWHERE else settings.host
    return url_of(host, port, secure=settings.tls_cert is not None)


def announce(
    settings: Settings, port: int, password: str | None, locale: str, out: TextIO, *, mcp: bool = False
) -> None:
    """Print where the page is and who may see it; with `mcp`, where its tools are. The password stands in words only,
    never in the QR code."""
    secure = settings.tls_cert is not None
    said = []
    if port != settings.port:
        said.append(message("ui.serving_port_moved", wanted=settings.port, port=port))
    own = own_url(settings, port)
    said.append(message("ui.serving", url=own))
    if mcp:
        said.append(message("ui.serving_mcp", url=f"{own}{MCP_PATH}"))
    host = lan_host(settings.host)
    lan = url_of(host, port, secure=secure) if host else None
    if lan and lan != own:
        said.append(message("ui.serving_lan", url=lan))
    for text in said:
        print(text.render(locale), file=out)
    for line in qr_lines(lan, out) if lan else ():
        print(line, file=out)
    if password and settings.host not in LOOPBACK:
        set_already = message("ui.serving_password_set") if settings.password else None
        print((set_already or message("ui.serving_password", password=password)).render(locale), file=out)
    print(message("ui.serving_stop").render(locale), file=out, flush=True)


def lan_host(host: str) -> str | None:
    """How other machines reach a page that listens on `host`; None for one that they do not, or an unknown way."""
    if host in LOOPBACK:
        return None
    if host not in _EVERYWHERE:
        with suppress(ValueError):
            return None if ipaddress.ip_address(host).is_loopback else host
        return host
    family = _EVERYWHERE[host]
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as asking:
        asking.connect((_FAR_AWAY[family], 9))
        found = asking.getsockname()[0]
        if _others_reach(found):
            return found
    # No way out of this network: any address in it.
    up = {name for name, state in psutil.net_if_stats().items() if state.isup}
    addresses = (one for name, several in psutil.net_if_addrs().items() if name in up for one in several)
    return next((one.address for one in addresses if one.family == family and _others_reach(one.address)), None)


def qr_lines(url: str, out: TextIO) -> list[str]:
    """The QR code of `url` for a terminal; nothing where `out` is none, or is too narrow, or has no such characters."""
    if not out.isatty() or os.environ.get("TERM") == "dumb":
        return []
    try:
        lines = half_blocks(encode(url))
        lines[QUIET].encode(out.encoding or "ascii")
    except (ValueError, LookupError):  # too long; or ink that this encoding has not
        return []
    if len(lines[0]) > shutil.get_terminal_size().columns:
        return []
    return [f"{_INK}{line}{_PLAIN}" for line in lines]


def _others_reach(address: str) -> bool:
    """An address that means the same to all machines of a network; one with a zone (fe80::1%eth0) does not."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return not (parsed.is_loopback or parsed.is_link_local or parsed.is_unspecified or parsed.is_multicast)
