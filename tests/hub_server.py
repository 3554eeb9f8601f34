"""A model hub of one machine: the few answers that huggingface_hub asks for, from a folder, on loopback."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """`repos` maps "owner/name" to the folder it serves. `fetched` collects the files that were asked for.
    Answers `status` instead of files when that is set, and breaks off after `break_after` bytes of a file."""

    repos: dict[str, Path]
    url: str = ""
    fetched: list[str] = field(default_factory=list)
    status: int | None = None
    error_code: str = ""
    break_after: int | None = None


@contextmanager
def serve_hub(repos: dict[str, Path]) -> Iterator[Hub]:
    """Serve `repos` until the block ends."""
    hub = Hub(repos)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, *, body: bool) -> None:
            parts = unquote(urlsplit(self.path).path).strip("/").split("/")
            if hub.status is not None:
                return self.send(hub.status, b"{}", {"X-Error-Code": hub.error_code}, body=body)
            if parts[:2] == ["api", "models"]:
                return self.describe(hub.repos.get("/".join(parts[2:4])), parts[4:], body=body)
            folder = hub.repos.get("/".join(parts[:2]))
            file = folder.joinpath(*parts[4:]) if folder and parts[2:3] == ["resolve"] else None
            if file is None or not file.is_file():
                return self.send(404, b"{}", {"X-Error-Code": "EntryNotFound"}, body=body)
            if body:
                hub.fetched.append("/".join(parts[4:]))
            return self.send_file(file, body=body)

        def describe(self, folder: Path | None, rest: list[str], *, body: bool) -> None:
            if folder is None:
                return self.send(404, b"{}", {"X-Error-Code": "RepoNotFound"}, body=body)
            files = {f.relative_to(folder).as_posix(): f for f in sorted(folder.rglob("*")) if f.is_file()}
            sizes = {name: file.stat().st_size for name, file in files.items()}
            if rest[:1] == ["tree"]:
                answer: object = [
                    {"type": "file", "path": name, "size": size, "oid": _etag(files[name])}
                    for name, size in sizes.items()
                ]
            else:
                siblings = [{"rfilename": name, "size": size} for name, size in sizes.items()]
                answer = {"id": "/".join(folder.parts[-2:]), "sha": COMMIT, "siblings": siblings}
            return self.send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"}, body=body)

        def send_file(self, file: Path, *, body: bool) -> None:
            data = file.read_bytes()
            start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
            headers = {"ETag": f'"{_etag(file)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
            if start:
                headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            self.send(206 if start else 200, data[start:], headers, body=body)

        def send(self, status: int, data: bytes, headers: dict[str, str], *, body: bool) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if body and hub.break_after is not None and len(data) > hub.break_after:
                self.wfile.write(data[: hub.break_after])
                self.close_connection = True
            elif body:
                self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _etag(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()
