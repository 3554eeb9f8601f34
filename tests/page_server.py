"""The real web app as a process, for tests that come to it as a browser or a client does."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from i2v.jobs.process.start import Process, start_cold
from tests.warm_support import pages

ROOT = Path(__file__).parents[1]
# Far more than a start takes; only a start that never comes waits this long.
START_SECONDS = 120


@dataclass(frozen=True)
class PageServer:
    """A page that answers. `output` holds what the app printed."""

    url: str
    folder: Path
    output: Path
    process: Process


def free_port() -> int:
    """A port of the loopback address that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def page_server(
    folder: Path,
    *flags: str,
    port: int | None = None,
    environ: Mapping[str, str] = {},
    cert: Path | None = None,
    anew: bool = False,
    cpu: bool = True,
) -> Iterator[PageServer]:
    """`python app.py`, with `cpu` on the processor alone, all its folders inside `folder`; ended by SIGTERM. With
    `cert` over https.

    It is forked from a process that has imported Gradio, which takes longer than many a test; with `anew` it is a new
    process as a person starts it. What computes is loaded when it is needed, unless `environ` says other."""
    port, output = port or free_port(), folder / "app.txt"
    command = [sys.executable, str(ROOT / "app.py"), "--port", str(port), *(["--cpu"] if cpu else [])]
    command += ["--out", str(folder / "outputs"), "--models", str(folder / "models"), *flags]
    own = {"I2V_LOGS_DIR": str(folder / "logs"), "GRADIO_TEMP_DIR": str(folder / "uploads"), "LANG": "C.UTF-8"}
    own |= {"I2V_PRELOAD": "false"}
    # The settings of whoever runs the tests stay out of them.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("I2V_")}
    environment = {**inherited, **own, **environ, "OMP_NUM_THREADS": "1"}
    with output.open("wb") as file, open(os.devnull, "rb") as nothing:
        start = start_cold if anew else pages().start
        process = start(command, environment, {0: nothing.fileno(), 1: file.fileno(), 2: file.fileno()})
    try:
        url = f"{'https' if cert else 'http'}://127.0.0.1:{port}"
        wait_for_page(url, process, output, cert)
        yield PageServer(url, folder, output, process)
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGTERM)
        process.wait(120)


def wait_for_page(
    url: str,
    process: Process,
    output: Path,
    cert: Path | None = None,
    most_seconds: float = START_SECONDS,
) -> None:
    """Until the app answers; AssertionError, with what it printed, where it ends or takes longer."""
    trusting = ssl.create_default_context(cafile=str(cert)) if cert else None
    deadline = time.monotonic() + most_seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, output.read_text()
        try:
            with urllib.request.urlopen(f"{url}/healthz", timeout=5, context=trusting) as answer:
                assert answer.status == 200
                return
        # A busy machine may take the connection long before it answers: the whole wait decides, not one question's.
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    raise AssertionError(f"no answer: {output.read_text()}")
