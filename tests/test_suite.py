"""The suite's own rules: who gets a second try, and that it is told; that the planted faults can be planted."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]

TESTS = """
import pytest
tries = []

@pytest.mark.drives
def test_unlucky_once():
    tries.append(1)
    assert len(tries) == 2, "bad luck"

@pytest.mark.drives
def test_broken():
    assert False, "always"

def test_of_a_function():
    tries.append(1)
    assert len(tries) == 4, "never tried again"
"""


def test_what_drives_processes_is_tried_twice_and_nothing_else_and_it_is_told(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(TESTS)
    words = ["-p", "tests.conftest", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml"), "-n", "1"]
    words += ["--rootdir", str(tmp_path), str(tmp_path)]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    assert "2 failed, 1 passed, 2 rerun" in ran.stdout
    told = ran.stdout.partition(" second tries ")[2].partition(" short test summary info ")[0]
    assert [line.partition("::")[2].partition(":")[0] for line in told.splitlines() if "::" in line] == [
        "test_unlucky_once",
        "test_broken",
    ]
    written = (tmp_path / "logs" / "second_tries.log").read_text()
    assert "bad luck" in written
    assert "never tried again" not in written


def test_every_planted_fault_still_has_its_place() -> None:
    """`python -m bench.planted` plants them; a mend of the code must not leave one behind."""
    faults = tomllib.loads((ROOT / "bench" / "planted.toml").read_text(encoding="utf-8"))["fault"]
    lost = [one["name"] for one in faults if one["text"] not in (ROOT / one["file"]).read_text(encoding="utf-8")]
    assert lost == []
    assert len({one["name"] for one in faults}) == len(faults) >= 30
