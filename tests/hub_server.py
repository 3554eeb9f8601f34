"""A model hub of one machine: the few answers that huggingface_hub asks for, from a folder, on loopback. It plays the
hub and its mirrors, in good order and in every kind of trouble; and ModelScope, for the client of that."""

from __future__ import annotations

import email.utils
import hashlib
import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from i2v.models.fetch import fetch as fetching
from i2v.models.fetch import routes
from i2v.models.fetch.fetch import Limits

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_PIECE_BYTES = 16 * 1024
_LARGE = (".safetensors", ".gguf")  # kept in the hub's large storage, and so published with a sha256


@dataclass
class Hub:
    """`repos` maps "owner/name" to the folder it serves. `fetched` collects the files that were asked for, and
    `served_bytes` counts their bytes. The rest is trouble; that of files begins with `file_`."""

    repos: dict[str, Path]
    url: str = ""
    fetched: list[str] = field(default_factory=list)
    served_bytes: int = 0
    tokens: list[str | None] = field(default_factory=list)
    """What came as Authorization, of each request."""
    status: int | None = None
    """Answered to everything, with `error_code`; `busy` times where that is set, with `retry_after`."""
    busy: int | None = None
    error_code: str = ""
    break_after: int | None = None
    """The connection ends after so many bytes of a file."""
    file_status: int | None = None
    """Answered in place of files, in the same way."""
    file_busy: int | None = None
    retry_after: str = ""
    file_stalls_after: int | None = None
    """So many bytes of a file, then none, over an open connection."""
    file_piece_seconds: float = 0.0
    """A pause after every 16 KiB."""
    file_corrupt: bool = False
    """One bit of each file is another."""
    file_longer: int = 0
    """So many bytes follow each file, or lack in it where that is below zero; the length that is told is theirs."""
    file_length_untold: bool = False
    file_ranges_ignored: bool = False
    sizes_untold: bool = False
    """Files are listed by their names alone."""
    redirect_to: str = ""
    """Where files are, in place of here."""
    xet_storage: Path | None = None
    """A folder that Xet's own client takes for its servers, as `store_in_xet` fills it."""
    xet_hashes: dict[str, str] = field(default_factory=dict)
    """Of files that are in it."""
    seconds_off: float = 0.0
    """How far the clock is ahead."""
    closing: threading.Event = field(default_factory=threading.Event)


@contextmanager
def serve_hub(repos: dict[str, Path], *, host: str = "127.0.0.1", certificate: Path | None = None) -> Iterator[Hub]:
    """Serve `repos` until the block ends; over https with a `certificate`, a PEM file that has the key as well."""
    hub = Hub(repos)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_args: object) -> None:
            pass

        def date_time_string(self, timestamp: float | None = None) -> str:
            return email.utils.formatdate((timestamp or time.time()) + hub.seconds_off, usegmt=True)

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, *, body: bool) -> None:
            hub.tokens.append(self.headers.get("Authorization"))
            path = urlsplit(self.path).path
            parts = unquote(path).strip("/").split("/")
            if hub.status is not None and hub.busy != 0:
                hub.busy = None if hub.busy is None else hub.busy - 1
                headers = {"X-Error-Code": hub.error_code, "Retry-After": hub.retry_after}
                return self.send(hub.status, b"{}", headers, body=body)
            if parts[4:5] == ["xet-read-token"]:
                headers = {"X-Xet-Cas-Url": f"local://{hub.xet_storage}", "X-Xet-Access-Token": "short-lived"}
                return self.send(200, b"{}", headers | {"X-Xet-Token-Expiration": "9999999999"}, body=body)
            if parts[:3] == ["api", "v1", "models"]:
                return self.as_modelscope(hub.repos.get("/".join(parts[3:5])), parts[5:], body=body)
            if parts[:2] == ["api", "models"]:
                return self.describe(hub.repos.get("/".join(parts[2:4])), body=body)
            folder = hub.repos.get("/".join(parts[:2]))
            file = folder.joinpath(*parts[4:]) if folder and parts[2:3] == ["resolve"] else None
            if file is None or not file.is_file():
                return self.send(404, b"{}", {"X-Error-Code": "EntryNotFound"}, body=body)
            if hub.redirect_to:
                return self.send(302, b"", {"Location": hub.redirect_to + path}, body=body)
            if body and hub.file_status is not None and hub.file_busy != 0:
                hub.file_busy = None if hub.file_busy is None else hub.file_busy - 1
                headers = {"X-Error-Code": hub.error_code} | (
                    {"Retry-After": hub.retry_after} if hub.retry_after else {}
                )
                return self.send(hub.file_status, b"{}", headers, body=body)
            if body:
                hub.fetched.append("/".join(parts[4:]))
            return self.send_file(file, body=body)

        def describe(self, folder: Path | None, *, body: bool) -> None:
            if folder is None:
                return self.send(404, b"{}", {"X-Error-Code": "RepoNotFound"}, body=body)
            files = {f.relative_to(folder).as_posix(): f for f in sorted(folder.rglob("*")) if f.is_file()}
            told = {} if hub.sizes_untold else {name: _published(file) for name, file in files.items()}
            siblings = [{"rfilename": name, **told.get(name, {})} for name in files]
            answer = {"id": "/".join(folder.parts[-2:]), "sha": COMMIT, "siblings": siblings}
            return self.send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"}, body=body)

        def as_modelscope(self, folder: Path | None, asked: list[str], *, body: bool) -> None:
            if folder is None:
                return self.send(404, b'{"Code": 10010205001, "Message": "not there"}', {}, body=body)
            if asked == ["repo", "files"]:
                files = [_on_modelscope(file, folder) for file in sorted(folder.rglob("*"))]
                answer = json.dumps({"Code": 200, "Data": {"Files": files}, "Success": True}).encode()
                return self.send(200, answer, {"Content-Type": "application/json"}, body=body)
            name = parse_qs(urlsplit(self.path).query)["FilePath"][0]
            if not (folder / name).is_file():
                return self.send(404, b"{}", {}, body=body)
            if hub.file_status is not None:
                return self.send(hub.file_status, b"{}", {}, body=body)
            hub.fetched.append(name)
            return self.send_file(folder / name, body=body)

        def send_file(self, file: Path, *, body: bool) -> None:
            data = bytearray(file.read_bytes())
            if hub.file_corrupt:
                data[len(data) // 2] ^= 1
            data = data[: hub.file_longer] if hub.file_longer < 0 else data + bytes(hub.file_longer)
            ranged = self.headers.get("Range")
            start = 0 if hub.file_ranges_ignored or not ranged else int(ranged.removeprefix("bytes=").split("-")[0])
            headers = {"ETag": f'"{_etag(file)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
            if found := hub.xet_hashes.get(file.name):
                headers["X-Xet-Hash"] = found
                headers["X-Xet-Refresh-Route"] = f"{hub.url}/api/models/owner/name/xet-read-token/{COMMIT}"
            if start:
                headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            self.send(206 if start else 200, bytes(data[start:]), headers, body=body, file=True)

        def send(self, status: int, data: bytes, headers: dict[str, str], *, body: bool, file: bool = False) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if file and hub.file_length_untold:
                self.send_header("Connection", "close")
                self.close_connection = True
            else:
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if body:
                with suppress(ConnectionError):  # whoever asked was killed
                    self.send_file_bytes(data) if file else self.wfile.write(data)

        def send_file_bytes(self, data: bytes) -> None:
            stops = [stop for stop in (hub.break_after, hub.file_stalls_after) if stop is not None]
            whole, data = len(data), data[: min(stops, default=len(data))]
            for start in range(0, len(data), _PIECE_BYTES):
                piece = data[start : start + _PIECE_BYTES]
                self.wfile.write(piece)
                hub.served_bytes += len(piece)
                if hub.file_piece_seconds and hub.closing.wait(hub.file_piece_seconds):
                    break
            if len(data) < whole:
                self.close_connection = True
                if hub.file_stalls_after is not None:
                    hub.closing.wait()

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

        def handle_error(self, _request: object, _address: object) -> None:
            pass  # a refused handshake, a peer that was killed

    server = Server((host, 0), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    place = f"[{host}]" if ":" in host else host
    hub.url = f"{'http' if certificate is None else 'https'}://{place}:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


def store_in_xet(file: Path, storage: Path) -> str:
    """Put a file into `storage` with Xet's own client; its hash there. In a process of its own, since the storage is
    closed to others until that ends."""
    script = (
        "import sys, hf_xet\n"
        "with hf_xet.XetSession().new_upload_commit(endpoint='local://' + sys.argv[2]) as commit:\n"
        "    upload = commit.start_upload_file(sys.argv[1])\n"
        "print(upload.result().xet_info.hash)"
    )
    command = [sys.executable, "-c", script, str(file), str(storage)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def make_certificate(folder: Path, *, days: int = 2) -> Path:
    """A certificate for 127.0.0.1 that nobody else has signed, with its key, in one PEM file; one that is over where
    `days` are below zero."""
    key, asked, signed, both = (folder / name for name in ("key.pem", "asked.pem", "signed.pem", "both.pem"))
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key, "-out", asked]
    named = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    sign = ["-copy_extensions", "copy", "-in", asked, "-signkey", key, "-days", str(days), "-out", signed]
    for command in (["req", *new, *named], ["x509", "-req", *sign]):
        subprocess.run(["openssl", *command], check=True, capture_output=True)
    both.write_bytes(key.read_bytes() + signed.read_bytes())
    return both


def _published(file: Path) -> dict[str, object]:
    data = file.read_bytes()
    git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    values: dict[str, object] = {"size": len(data), "blobId": git}
    if file.suffix in _LARGE:
        values["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
        values["blobId"] = hashlib.sha1(b"a pointer").hexdigest()
    return values


def _on_modelscope(path: Path, folder: Path) -> dict[str, object]:
    """A file or a folder as ModelScope lists it."""
    listed: dict[str, object] = {"Path": path.relative_to(folder).as_posix(), "Type": "tree", "Size": 0, "Sha256": ""}
    if path.is_file():
        data = path.read_bytes()
        listed |= {"Type": "blob", "Size": len(data), "Sha256": hashlib.sha256(data).hexdigest()}
    return listed


def _etag(file: Path) -> str:
    told = _published(file)
    return told["lfs"]["sha256"] if "lfs" in told else str(told["blobId"])  # type: ignore[index,return-value]


def ask_no_other_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real hub is not asked, and no time is lost before one is asked again."""
    monkeypatch.setattr(routes, "HUB", "http://127.0.0.1:9")
    monkeypatch.setattr(routes, "modelscope_installed", lambda: False)
    monkeypatch.setattr(fetching, "USUAL", Limits(seconds_between_tries=0.05))
