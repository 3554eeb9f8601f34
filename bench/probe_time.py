"""How long the probe takes: in a fresh process with its imports, and again in a running one.

    python -m bench.probe_time

Prints a table; exit code 1 when a fresh probe takes more than TARGET_SECONDS. With the tests' stand-in for the
driver's library (`--cards 2`) the driver's own time is left out; without it the machine's real driver is asked.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

TARGET_SECONDS = 0.5
ROOT = Path(__file__).resolve().parents[1]
ONCE = """
from pathlib import Path
from i2v.hardware.probe import MemoryProbe
MemoryProbe(disk_path=Path("outputs")).read()
"""
AGAIN = f"""
import time
{ONCE}
start = time.perf_counter()
for _ in range(20):
    MemoryProbe(disk_path=Path("outputs")).read()
print((time.perf_counter() - start) / 20)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--cards", type=int, default=0, help="this many cards of the tests' stand-in driver")
    options = parser.parse_args()
    environ = dict(os.environ)
    if options.cards:
        from tests.stubs import card, stub_environment

        environ = stub_environment(*(card(f"Card {i}", f"proc={os.getpid()}/100") for i in range(options.cards)))
    fresh = sorted(_seconds(environ) for _ in range(options.runs))
    again = float(_run(AGAIN, environ))
    median = statistics.median(fresh)
    print("| probe | median s | slowest s | target s |")
    print("|---|---|---|---|")
    print(f"| fresh process, imports included | {median:.3f} | {fresh[-1]:.3f} | {TARGET_SECONDS} |")
    print(f"| again, in a running process | {again:.4f} | | |")
    return 0 if median <= TARGET_SECONDS else 1


def _seconds(environ: dict[str, str]) -> float:
    start = time.perf_counter()
    _run(ONCE, environ)
    return time.perf_counter() - start


def _run(script: str, environ: dict[str, str]) -> str:
    command = [sys.executable, "-c", script]
    return subprocess.run(command, cwd=ROOT, env=environ, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
