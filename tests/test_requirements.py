"""The packages: pinned, installed as pinned, in agreement with each other; and whether faults are known of them."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALWAYS = ("requirements.txt", "requirements-dev.txt")
EXTRAS = ("requirements-mcp.txt", "requirements-modelscope.txt", "requirements-quantised.txt")
_PINNED = re.compile(r"([A-Za-z0-9][\w.-]*)==(\d[\w.]*)")


def pinned(file: str) -> dict[str, str]:
    """Name and version of each line of a requirements file."""
    lines = (line.partition("#")[0].strip() for line in (ROOT / file).read_text(encoding="utf-8").splitlines())
    found = {line: _PINNED.fullmatch(line) for line in lines if line}
    assert not [line for line, match in found.items() if match is None], f"{file}: name==version, and nothing else"
    return {match[1]: match[2] for match in found.values() if match}


@pytest.mark.parametrize("file", ALWAYS)
def test_what_is_installed_is_what_is_pinned(file: str) -> None:
    wanted = pinned(file)
    assert len(wanted) > 5
    # Of torch there are builds for each kind of card: 2.13.0+cpu is a 2.13.0.
    installed = {name: importlib.metadata.version(name).partition("+")[0] for name in wanted}
    assert installed == wanted


def imported(*places: str) -> dict[str, str]:
    """The packages of others that the files there import, each with a file that does."""
    files = [path for place in places for path in (ROOT.glob(place) if "*" in place else (ROOT / place).rglob("*.py"))]
    found: dict[str, str] = {}
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                names = [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
            found |= {name.partition(".")[0]: str(path.relative_to(ROOT)) for name in names}
    ours = {path.stem for path in (*ROOT.iterdir(), *(ROOT / "tests").iterdir(), *(ROOT / "tests/browser").iterdir())}
    return {name: file for name, file in found.items() if name not in sys.stdlib_module_names | ours}


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize(
    ("places", "files"),
    [
        (("i2v", "*.py"), ["requirements.txt", "requirements-modelscope.txt", "requirements-quantised.txt"]),
        (("tests", "bench", "tools"), [*ALWAYS, *EXTRAS]),
    ],
    ids=["the app", "tests and tools"],
)
def test_what_is_imported_is_pinned(places: tuple[str, ...], files: list[str]) -> None:
    """A package that only another one brings along goes, or changes, with the next version of that one."""
    found, distributions = imported(*places), importlib.metadata.packages_distributions()
    assert {"torch", "PIL", "yaml"} <= found.keys()
    known = {plain(name) for file in files for name in pinned(file)}
    assert {
        f"{name} ({file})" for name, file in found.items() if not {*map(plain, distributions.get(name, [name]))} & known
    } == set()


@pytest.mark.parametrize("file", EXTRAS)
def test_an_extra_is_pinned_and_costs_the_app_nothing(file: str) -> None:
    extra = pinned(file)
    assert extra
    assert not extra.keys() & pinned("requirements.txt").keys()


def test_the_installed_packages_agree() -> None:
    checked = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("file", [ALWAYS[0], *EXTRAS])
def test_no_fault_is_known_of_what_is_pinned(file: str) -> None:
    """Asks the advisories, so only where pip-audit is installed and they can be reached."""
    if importlib.util.find_spec("pip_audit") is None:
        pytest.skip("pip-audit is not installed, so nobody was asked for known faults: python -m pip install pip-audit")
    asking = ["--no-deps", "--disable-pip", "--format", "json", "--timeout", "15", "-r", str(ROOT / file)]
    asked = subprocess.run([sys.executable, "-m", "pip_audit", *asking], capture_output=True, text=True, check=False)
    try:
        packages = json.loads(asked.stdout)["dependencies"]
    except ValueError:
        why = (asked.stderr.strip() or "no answer").splitlines()[-1]
        pytest.skip(f"pip-audit could not ask about known faults in {file}: {why[:200]}")
    assert {package["name"] for package in packages} == {name.lower().replace("_", "-") for name in pinned(file)}
    faults = {f"{package['name']} {package['version']}": [known["id"] for known in package["vulns"]]
              for package in packages if package.get("vulns")}  # fmt: skip
    assert not faults
    unasked = {package["name"]: package["skip_reason"] for package in packages if "skip_reason" in package}
    if unasked:
        name, why = next(iter(unasked.items()))
        pytest.skip(f"pip-audit could not ask about {len(unasked)} of {len(packages)} in {file}, such as {name}: {why}")
