"""How long a second `bash start_app.sh` takes until the page answers.

    python -m bench.start_time

Sets up first, untimed. Then starts, asks for the page until it answers with 200, ends the app, and does so again.
Prints a table; exit code 1 when the median is above TARGET_SECONDS.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

TARGET_SECONDS = 8.0
PATIENCE_SECONDS = 60.0
START_APP = Path(__file__).resolve().parents[1] / "start_app.sh"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    subprocess.run(["bash", START_APP, "--setup-only"], check=True)
    ready, page = zip(*(_start_once() for _ in range(options.runs)), strict=True)
    median = statistics.median(page)
    print("| from `bash start_app.sh` until | median s | slowest s | target s |")
    print("|---|---|---|---|")
    print(f"| set-up checked | {statistics.median(ready):.2f} | {max(ready):.2f} | |")
    print(f"| the page answers | {median:.2f} | {max(page):.2f} | {TARGET_SECONDS} |")
    return 0 if median <= TARGET_SECONDS else 1


def _start_once() -> tuple[float, float]:
    """Seconds of the set-up check alone, and until the page answers."""
    start = time.perf_counter()
    subprocess.run(["bash", START_APP, "--setup-only"], check=True)
    checked = time.perf_counter() - start
    port = _free_port()
    start = time.perf_counter()
    with subprocess.Popen(
        ["bash", START_APP, "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as app:
        try:
            while not _answers(f"http://127.0.0.1:{port}/"):
                if app.poll() is not None:
                    raise SystemExit(f"the app ended with {app.returncode}: {app.stderr.read()}")
                if time.perf_counter() - start > PATIENCE_SECONDS:
                    raise SystemExit(f"no page after {PATIENCE_SECONDS:.0f} s")
                time.sleep(0.05)
            return checked, time.perf_counter() - start
        finally:
            app.send_signal(signal.SIGTERM)


def _answers(url: str) -> bool:
    with contextlib.suppress(OSError, urllib.error.URLError), urllib.request.urlopen(url, timeout=5) as page:
        return page.status == 200 and bool(page.read())
    return False


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


if __name__ == "__main__":
    sys.exit(main())
