"""The launcher's parts: which torch, which stamp, which texts, which command."""

from __future__ import annotations

import argparse
import http.server
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from i2v.cli import plan_only
from i2v.messages import LOCALES
from i2v.setup.bare_texts import CATALOGUES, read_flat, terminal_locale
from i2v.setup.environment import Stamp, install_error
from i2v.setup.launcher import command
from i2v.setup.torch_build import DriverCard, choose_torch_build, common_capability, reachable
from tests.stubs import card, stub_environment

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("capability", "driver", "system", "build", "reason"),
    [
        # The default wheel is CUDA 13: driver 580 or newer, compute capability 7.5 or newer.
        ((7, 5), "580.65.06", "Linux", "default", "torch_default"),
        ((8, 6), "580.65.06", "Linux", "default", "torch_default"),
        ((9, 0), "595.10", "Linux", "default", "torch_default"),
        ((12, 0), "580.82.07", "Linux", "default", "torch_default"),
        # An older driver.
        ((8, 6), "579.99", "Linux", "cu126", "torch_for_driver"),
        ((8, 9), "550.54.14", "Linux", "cu126", "torch_for_driver"),
        ((7, 5), "525.60.13", "Linux", "cu126", "torch_for_driver"),
        # An older card, whatever the driver.
        ((6, 1), "580.65.06", "Linux", "cu126", "torch_for_card"),
        ((7, 0), "535.183.01", "Linux", "cu126", "torch_for_card"),
        ((5, 0), "525.60.13", "Linux", "cu126", "torch_for_card"),
        # Beyond every build.
        ((3, 7), "470.256.02", "Linux", "cpu", "torch_old_card"),
        ((8, 6), "470.256.02", "Linux", "cpu", "torch_old_driver"),
        ((6, 1), "470.256.02", "Linux", "cpu", "torch_old_driver"),
        ((12, 0), "570.86.10", "Linux", "cpu", "torch_old_driver"),
        # What the driver does not tell counts as good enough.
        ((8, 6), None, "Linux", "default", "torch_default"),
        ((6, 1), None, "Linux", "cu126", "torch_for_card"),
        (None, "580.65.06", "Linux", "default", "torch_default"),
        (None, "550.54.14", "Linux", "cu126", "torch_for_driver"),
        ((8, 6), "unknown", "Linux", "default", "torch_default"),
        # No card.
        (None, None, "Linux", "cpu", "torch_no_card"),
        (None, None, "Darwin", "default", "torch_default"),
    ],
)
def test_the_torch_build_fits_card_and_driver(
    capability: tuple[int, int] | None, driver: str | None, system: str, build: str, reason: str
) -> None:
    chosen = choose_torch_build(capability, driver, system=system, environ={})
    assert (chosen.name, chosen.reason) == (build, f"launcher.{reason}")
    assert chosen.requirement("2.13.0") == ("torch==2.13.0" if build == "default" else f"torch==2.13.0+{build}")
    assert chosen.index_url == (None if build == "default" else f"https://download.pytorch.org/whl/{build}")


def test_a_mirror_of_the_wheel_index_is_used_when_named() -> None:
    mirror = {"I2V_TORCH_INDEX": "https://mirror.example/wheels/"}
    assert choose_torch_build((6, 1), "580.1", environ=mirror).index_url == "https://mirror.example/wheels/cu126"
    assert choose_torch_build((8, 6), "580.1", environ=mirror).index_url is None


@pytest.mark.parametrize(
    ("capabilities", "deciding"),
    [
        ([], None),
        ([(8, 6)], (8, 6)),
        ([(8, 6), (6, 1)], (6, 1)),
        ([(6, 1), (9, 0)], (6, 1)),
        ([(6, 1), (12, 0)], (12, 0)),
    ],
)
def test_of_several_cards_the_one_decides_whose_build_serves_most(capabilities: list, deciding: tuple | None) -> None:
    assert common_capability(capabilities) == deciding


@pytest.mark.parametrize(
    ("entries", "driver", "expected"),
    [
        ((card("DriverCard", capability="6.1"),), "535.1", DriverCard((6, 1), "535.1")),
        ((card("New", capability="8.9"), card("Old", capability="7.0")), "535.1", DriverCard((7, 0), "535.1")),
        ((card("Odd", "fail=capability/999"),), "535.1", DriverCard(None, "535.1")),
        ((card("Lost", "fail=handle/15"), card("Well", capability="8.6")), "535.1", DriverCard((8, 6), "535.1")),
        ((card("DriverCard", capability="8.6"),), "", DriverCard((8, 6), None)),
        ((), "535.1", None),
        (("init:18", card("DriverCard")), "535.1", None),
    ],
)
def test_the_card_is_seen_before_anything_is_installed(
    entries: tuple, driver: str, expected: DriverCard | None
) -> None:
    script = (
        "from i2v.setup.torch_build import *; print(repr(see_card())); import sys; assert 'pynvml' not in sys.modules"
    )
    run = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {script}"],
        env=stub_environment(*entries, driver=driver),
        capture_output=True,
        text=True,
    )
    assert run.stdout.strip() == repr(expected), run.stderr


def test_the_launcher_needs_nothing_but_python() -> None:
    """It runs in an interpreter that sees the standard library alone, as before the set-up."""
    run = subprocess.run(
        [
            sys._base_executable,
            "-I",
            "-S",
            "-c",
            f"import sys; sys.path.insert(0, {str(ROOT)!r}); import i2v.setup.launcher",
        ],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr


class _Index(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/slow"):
            time.sleep(5)
        self.send_response(200 if self.path == "/whl/torch/" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def index() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Index)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_an_index_is_reachable_when_it_answers_for_torch(index: str) -> None:
    assert reachable(f"{index}/whl")
    assert not reachable(f"{index}/elsewhere")
    assert not reachable(f"{index}/slow", seconds=0.2)
    assert not reachable("http://127.0.0.1:1/whl")
    assert not reachable("http://no-such-host.invalid/whl", seconds=1)
    assert not reachable("nonsense")


def stamp(requirements: str = "a", python: str = "3.11", build: str = "default", **more: str) -> Stamp:
    return Stamp(requirements, python, more.pop("platform", "Linux-x86_64"), build, **more)


@pytest.mark.parametrize(
    ("made", "wanted", "serves"),
    [
        (stamp(), stamp(), True),
        (stamp(), stamp(requirements="b"), False),
        (stamp(), stamp(python="3.12"), False),
        (stamp(), stamp(platform="Linux-aarch64"), False),
        (stamp(), stamp(build="cu126"), False),
        # The card is gone today: what is installed computes on the processor too.
        (stamp(), stamp(build="cpu"), True),
        # The processor's build does not serve a card that has come.
        (stamp(build="cpu"), stamp(), False),
        # What the tests need is asked for by the tests only.
        (stamp(), stamp(dev="d"), False),
        (stamp(dev="d"), stamp(), True),
        (stamp(dev="e"), stamp(dev="d"), False),
        # The index was out of reach when the environment was made: that is no reason to try again at each start.
        (stamp(build="cu126", installed="default"), stamp(build="cu126"), True),
    ],
)
def test_a_stamp_serves_what_it_was_made_for(made: Stamp, wanted: Stamp, serves: bool) -> None:
    assert made.serves(wanted) is serves


@pytest.mark.parametrize("locale", LOCALES)
def test_the_launchers_texts_read_the_same_without_a_yaml_library(locale: str) -> None:
    path = CATALOGUES / locale / "launcher.yaml"
    assert read_flat(path) == yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("environ", "locale"),
    [
        ({}, "en"),
        ({"LANG": "zh_CN.UTF-8"}, "zh-CN"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C.UTF-8"}, "en"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
        ({"LANG": "en_US", "LC_MESSAGES": "zh_TW"}, "zh-CN"),
    ],
)
def test_the_terminal_says_its_language(environ: dict[str, str], locale: str) -> None:
    assert terminal_locale(environ) == locale


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({}, ["app.py"]),
        ({"listen": True, "port": 8000}, ["app.py", "--listen", "--port", "8000"]),
        ({"cpu": True, "preset": "06gb"}, ["app.py", "--cpu", "--preset", "06gb"]),
        ({"gpu": "GPU-1", "models": "/a b"}, ["app.py", "--gpu", "GPU-1", "--models", "/a b"]),
        ({"check": True, "simulate": 6.0, "listen": True}, ["-m", "i2v", "doctor", "--simulate", "6.0"]),
        ({"plan_only": True, "gpu": "1"}, ["-m", "i2v.cli.plan_only", "--gpu", "1"]),
    ],
)
def test_each_flag_reaches_the_program_it_is_for(flags: dict, expected: list[str]) -> None:
    nothing = dict.fromkeys(("preset", "gpu", "models", "port", "simulate")) | dict.fromkeys(
        ("cpu", "listen", "check", "plan_only"), False
    )
    assert command(argparse.Namespace(**nothing | flags)) == expected


@pytest.mark.parametrize(
    ("output", "says", "advises"),
    [
        ("ERROR: Could not install: [Errno 28] No space left on device", "disk is full", "Free some space"),
        ("NewConnectionError: refused\nERROR: No matching distribution found for x", "cannot be reached", "proxy"),
        ("ERROR: No matching distribution found for torch==2.13.0", "torch==2.13.0", "3.11 or 3.12"),
        ("ERROR: [Errno 13] Permission denied: '/x'", "may not be written", "own this folder"),
        ("OSError: Missing dependencies for SOCKS support.", "SOCKS", "https_proxy"),
        ("Collecting torch\n\nexit code -9", "memory ran out", "swap"),
        ("something else\nERROR: odd\n\nexit code 1", "ERROR: odd", "--repair"),
    ],
)
def test_a_failed_install_says_why_and_what_to_do(output: str, says: str, advises: str) -> None:
    error = install_error(output)
    assert says in str(error)
    assert advises in error.next_step


def test_plan_only_prints_the_probe_and_the_preset_as_json() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "i2v.cli.plan_only"],
        cwd=ROOT,
        env=stub_environment(card("NVIDIA GeForce RTX 3060", total_gib=12, used_gib=0.2)),
        capture_output=True,
        text=True,
    )
    values = json.loads(run.stdout)
    assert (values["preset"], values["preset_source"]) == ("12gb", "probe")
    assert values["probe"]["gpu"]["name"] == "NVIDIA GeForce RTX 3060"


@pytest.mark.parametrize(
    ("flags", "preset"), [(["--cpu"], "cpu"), (["--simulate", "6"], "06gb"), (["--preset", "24gb"], "24gb")]
)
def test_plan_only_takes_the_flags_of_the_app(
    flags: list[str], preset: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in os.environ if name.startswith("I2V_")]:
        monkeypatch.delenv(name)
    assert plan_only.main(flags) == 0
    assert json.loads(capsys.readouterr().out)["preset"] == preset


def test_plan_only_refuses_a_card_that_is_not_there() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "i2v.cli.plan_only", "--gpu", "3"],
        cwd=ROOT,
        env=stub_environment(card("DriverCard")),
        capture_output=True,
        text=True,
    )
    assert (run.returncode, run.stdout) == (2, "")
    assert "0: DriverCard" in run.stderr
    assert "Traceback" not in run.stderr
