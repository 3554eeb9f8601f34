"""What other programs have left in the environment, and what of it would stop this one: looked at before all else.

Plain Python: it runs before anything is installed, and before anything is imported that a variable could break.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from i2v.setup.bare_texts import render
from i2v.setup.library_variables import set_aside_because

ROOT = Path(__file__).resolve().parents[2]
SET_ASIDE = "START_APP_SET_ASIDE"
"""Tells child processes, and messages about a failed download, which variables were set aside."""

PROXIES = ("http_proxy", "https_proxy", "all_proxy")
CERTIFICATE_FILES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT")
FOLDERS = ("TMPDIR", "TEMP", "TMP")
MADE_FOLDERS = ("GRADIO_TEMP_DIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
"""Folders that the libraries make themselves."""
CHILDREN = ("PYTHONOPTIMIZE", "PYTHONWARNINGS", "PYTHONINSPECT", "PYTHONEXECUTABLE", "PYTHONPLATLIBDIR")
"""What would change how this program's own processes run: torch's libraries do not work without docstrings."""
GRADIO = ("GRADIO_ANALYTICS_ENABLED", "GRADIO_ROOT_PATH", "GRADIO_TEMP_DIR")
"""Gradio's own variables that are heard. Others are for the apps that use Gradio's launcher, or open this one wider."""
WHOLE_NUMBERS = (
    "HF_HUB_ETAG_TIMEOUT",
    "HF_HUB_DOWNLOAD_TIMEOUT",
    "DIFFUSERS_TIMEOUT_REMOTE_CODE",
    "NUMPY_MADVISE_HUGEPAGE",
)
_SCHEMES = ("http", "https", "socks5", "socks5h")
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
_PLACE = re.compile(r"(\[[^\[\]]+\]|[^\[\]:]+)(:\d*)?")
_FOUR_NUMBERS = re.compile(r"\d+\.\d+\.\d+\.\d+")
_EXEMPT = re.compile(r"\*|(\*?\.)?[A-Za-z0-9_][A-Za-z0-9_.-]*(\.\*)?(:\d{1,5})?")


@dataclass(frozen=True)
class Aside:
    """A variable that is not used, with its value, and why: the id of a text and what it names."""

    variable: str
    value: str
    why: str
    params: Mapping[str, str] = field(default_factory=dict)

    def render(self) -> str:
        """One sentence for the terminal."""
        return render(self.why, variable=self.variable, value=self.value, **self.params)


def enter() -> None:
    """The first thing that a program of ours does: leave foreign modules, set aside what cannot be used, say so."""
    refuse_windows()
    asides = [*leave_foreign_modules(os.environ, sys.path), *clean(os.environ)]
    for aside in asides:
        print(aside.render(), file=sys.stderr, flush=True)


def refuse_windows(system: str = os.name) -> None:
    """Say where this runs, and end, where it cannot."""
    if system == "nt":
        print(render("launcher.windows"), file=sys.stderr, flush=True)
        raise SystemExit(1)


def leave_foreign_modules(environ: MutableMapping[str, str], path: list[str]) -> list[Aside]:
    """Take PYTHONPATH out of `environ` and `path` where this Python is an environment of its own: what another Python
    keeps there is not made for it. The folder that this very package comes from stays. And take out what would change
    how child processes run."""
    value = environ.get("PYTHONPATH", "")
    if sys.prefix == sys.base_prefix:
        return []
    for name in CHILDREN:
        environ.pop(name, None)
    foreign = {os.path.abspath(entry) for entry in value.split(os.pathsep) if entry} - {str(ROOT)}
    if not foreign:
        return []
    path[:] = [entry for entry in path if os.path.abspath(entry or ".") not in foreign]
    if str(ROOT) in map(os.path.abspath, value.split(os.pathsep)):
        environ["PYTHONPATH"] = str(ROOT)
    else:
        del environ["PYTHONPATH"]
    return [Aside("PYTHONPATH", value, "launcher.aside_python")]


def clean(environ: MutableMapping[str, str], *, socks: bool | None = None) -> list[Aside]:
    """Take what cannot be used out of `environ`, and return it. `socks`: whether SOCKS proxies work; None to look."""
    asides: list[Aside] = []
    for name in list(environ):
        value = environ[name].strip()
        if not value:
            if name.lower() in PROXIES:
                del environ[name]
        elif name.lower() in PROXIES:
            asides += _clean_proxy(environ, name, value, socks)
        elif name.lower() == "no_proxy":
            asides += _clean_exemptions(environ, name, value)
        elif name in CERTIFICATE_FILES:
            asides += _unless(_certificates_problem(value), name, value, "certificates")
        elif name == "SSL_CERT_DIR":
            readable = any(os.access(folder, os.R_OK | os.X_OK) for folder in value.split(os.pathsep))
            asides += _unless("" if readable else "missing", name, value, "certificates")
        elif name == "SSLKEYLOGFILE":
            asides += _unless("" if _can_append(value) else "locked", name, value, "keys")
        elif name in MADE_FOLDERS:
            with suppress(OSError, ValueError):
                os.makedirs(value, exist_ok=True)
            asides += _unless("" if can_write(value) else "locked", name, value, "folder")
        elif name.startswith("TQDM_"):
            asides += _unless("" if _is_number(value, float) else "unread", name, value, "number")
        elif name in WHOLE_NUMBERS:
            asides += _unless("" if _is_number(value, int) else "unread", name, value, "whole")
        elif name == "HF_ENDPOINT":
            wrong = value.partition("://")[0] not in ("http", "https") or proxy_problem(value)
            asides += _unless("unread" if wrong else "", name, value, "address")
        elif name == "IMAGEIO_FFMPEG_EXE":
            asides += _unless("" if shutil.which(value) else "missing", name, value, "program")
        elif name.startswith("GRADIO_") and name not in GRADIO:
            asides.append(Aside(name, value, "launcher.aside_gradio"))
        elif name in FOLDERS:
            asides += _unless("" if can_write(value) else "locked", name, value, "folder")
        elif why := set_aside_because(name, value):
            asides.append(Aside(name, value, f"launcher.aside_{why}"))
    for aside in asides:
        if aside.why != "launcher.aside_exempt":
            environ.pop(aside.variable, None)
    if asides:
        told = [f"{aside.variable}={aside.value}" for aside in asides]
        environ[SET_ASIDE] = ", ".join([environ[SET_ASIDE], *told] if environ.get(SET_ASIDE) else told)
    asides += _give_temporary_folder(environ)
    return asides


def proxy_problem(value: str) -> str:
    """Why `value` cannot be the address of a proxy: "scheme" or "address"; "" where it can."""
    scheme, _, rest = value.partition("://") if "://" in value else ("http", "", value)
    if scheme.lower() not in _SCHEMES:
        return "scheme"
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "address"
    place = parts.netloc.rpartition("@")[2]
    if not value.isascii() or not value.isprintable() or " " in value or port == 0 or not _PLACE.fullmatch(place):
        return "address"
    return "" if _is_host(host) else "address"


def without_password(value: str) -> str:
    """A proxy's address to be shown."""
    return re.sub(r"(?<=://)[^/]*@|^[^/:@]+:[^/@]*@", "…@", value)


def proxy_for_downloads(environ: Mapping[str, str], host: str) -> tuple[str, str] | None:
    """The variable that names the proxy on the way to `host` by https, and its address; None where there is none."""
    exempt = ",".join(environ.get(name, "") for name in ("no_proxy", "NO_PROXY")).split(",")
    if "*" in exempt or any(entry and host.endswith(entry.removeprefix("*")) for entry in map(str.strip, exempt)):
        return None
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        if value := environ.get(name, "").strip():
            return name, without_password(value)
    return None


def can_write(folder: str) -> bool:
    """Whether a file can be made in `folder`."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except (OSError, ValueError):
        return False


def _clean_proxy(environ: MutableMapping[str, str], name: str, value: str, socks: bool | None) -> Iterator[Aside]:
    if value.lower().startswith("socks://"):  # as desktops write it, and as other programs read it
        value = "socks5" + value[len("socks") :]
    if problem := proxy_problem(value):
        yield Aside(name, without_password(value), f"launcher.aside_{problem}")
    elif value.lower().startswith("socks") and not (_has_socks() if socks is None else socks):
        yield Aside(name, without_password(value), "launcher.aside_socks")
    else:
        environ[name] = value


def _clean_exemptions(environ: MutableMapping[str, str], name: str, value: str) -> Iterator[Aside]:
    """Names and addresses that need no proxy, with commas between them; what is neither is dropped, and told."""
    kept, dropped = [], []
    for entry in re.split(r"[,;\s]+", value):
        if entry:
            plain = entry.removeprefix("[").removesuffix("]") if re.fullmatch(r"\[[^\]]*\]", entry) else entry
            (kept if _is_exemption(plain) else dropped).append(plain)
    environ[name] = ",".join(kept)
    if dropped:
        yield Aside(name, " ".join(dropped), "launcher.aside_exempt")


def _is_exemption(entry: str) -> bool:
    with suppress(ValueError):
        network = ipaddress.ip_network(entry, strict=False)
        return network.version == 4 or not set("/%") & set(entry)  # the libraries do not read others
    host = entry.rpartition(":")[0] or entry
    numbers = _FOUR_NUMBERS.fullmatch(host)
    return bool(_EXEMPT.fullmatch(entry)) and "xn--" not in entry.lower() and (not numbers or _is_host(host))


def _is_host(host: str) -> bool:
    if ":" in host or _FOUR_NUMBERS.fullmatch(host):
        with suppress(ValueError):
            ipaddress.ip_address(host)
            return "%" not in host
        return False
    return bool(_HOST.fullmatch(host)) and "xn--" not in host.lower()


def _certificates_problem(value: str) -> str:
    if not os.path.exists(value):
        return "missing"
    if not os.access(value, os.R_OK):
        return "locked"
    if os.path.isdir(value):
        return ""
    import ssl

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=value)
    except (OSError, ValueError):  # ssl.SSLError is an OSError
        return "empty"
    return ""


def _can_append(file: str) -> bool:
    try:
        with open(file, "a", encoding="utf-8"):
            return True
    except (OSError, ValueError):
        return False


def _unless(problem: str, name: str, value: str, kind: str) -> Iterator[Aside]:
    if problem:
        yield Aside(name, value, f"launcher.aside_{kind}_{problem}")


def _is_number(value: str, read: type[int] | type[float]) -> bool:
    try:
        read(value)
    except ValueError:
        return False
    return True


def _has_socks() -> bool:
    return importlib.util.find_spec("socksio") is not None


def _give_temporary_folder(environ: MutableMapping[str, str]) -> Iterator[Aside]:
    """Where no folder for temporary files is left, one of ours."""
    usual = ("/tmp", "/var/tmp", "/usr/tmp")
    if any(environ.get(name) for name in ("TMPDIR", "TEMP", "TMP")) or any(
        map(can_write, filter(os.path.isdir, usual))
    ):
        return
    ours = str(ROOT / "logs" / "tmp")
    with suppress(OSError):
        os.makedirs(ours, exist_ok=True)
    if can_write(ours):
        environ["TMPDIR"] = ours
        yield Aside("TMPDIR", ours, "launcher.own_temporary")
