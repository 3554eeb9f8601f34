"""Faults planted one at a time, each of which must turn its tests red: what says that the tests can fail.

    python -m bench.planted [NAME ...]

Works on a copy of what is committed. Prints a table and writes it to bench/results/planted.json, where the rows of
faults that were not planted this time stay as they are; exits 1 where a fault stays unseen. A line of the code that is
no longer as written here is an error: the fault is then planted anew.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
FAULTS = Path(__file__).with_suffix(".toml")
RESULTS = ROOT / "bench" / "results" / "planted.json"


@dataclass(frozen=True)
class Fault:
    """In `file`, `text` becomes `planted`; `tests` are pytest's words for those that must see it."""

    name: str
    file: str
    text: str
    planted: str
    tests: str


def plant(fault: Fault, copy: Path) -> tuple[bool, str, float]:
    """Whether the tests saw it, the first that did, and the seconds that took."""
    path = copy / fault.file
    whole = path.read_text(encoding="utf-8")
    if whole.count(fault.text) < 1:
        raise SystemExit(f"{fault.name}: {fault.file} no longer reads {fault.text!r}")
    path.write_text(whole.replace(fault.text, fault.planted), encoding="utf-8")
    began = time.monotonic()
    try:
        words = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:rerunfailures", "--tb=no", *_words(fault.tests)]
        ran = subprocess.run(
            [sys.executable, "-m", "pytest", *words],
            cwd=copy, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    finally:
        path.write_text(whole, encoding="utf-8")
    lines = [line for line in ran.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    first = lines[0].split(" ", 1)[1].partition(" - ")[0] if lines else ran.stdout[-200:]
    return ran.returncode == 1 and bool(lines), first, time.monotonic() - began


def _words(tests: str) -> list[str]:
    """Files, and what follows -k as one word."""
    files, _, wanted = tests.partition(" -k ")
    return [*files.split(), *(["-k", wanted] if wanted else [])]


def _rows_before(faults: set[str]) -> dict[str, dict[str, object]]:
    """The table's rows by fault, of those that are still planted."""
    if not RESULTS.is_file():
        return {}
    return {row["fault"]: row for row in json.loads(RESULTS.read_text(encoding="utf-8")) if row["fault"] in faults}


def main(names: list[str]) -> int:
    faults = [Fault(**values) for values in tomllib.loads(FAULTS.read_text(encoding="utf-8"))["fault"]]
    chosen = [fault for fault in faults if not names or any(name in fault.name for name in names)]
    rows = _rows_before({fault.name for fault in faults})
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(copy)], check=True)
        for fault in chosen:
            seen, first, seconds = plant(fault, copy)
            rows[fault.name] = {
                "fault": fault.name, "file": fault.file, "seen": seen, "by": first, "seconds": round(seconds),
            }  # fmt: skip
            table = [rows[fault.name] for fault in faults if fault.name in rows]
            RESULTS.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
            print(f"| {fault.name} | {first if seen else 'NOT SEEN ' + first} | {seconds:.0f} s |", flush=True)
    unseen = [fault.name for fault in chosen if not rows[fault.name]["seen"]]
    print(f"{len(chosen)} planted, {len(unseen)} not seen {unseen or ''}")
    return 1 if unseen else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
