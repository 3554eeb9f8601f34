"""`start_app.sh` as a person runs it: a folder with spaces, the real bash, venv and pip, and a package index on
loopback that holds one wheel, a torch of a few lines. What the launcher refuses by itself is asked of it in this
process."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import shutil
import signal
import subprocess
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import pytest

from i2v.setup import launcher
from i2v.setup.environment import Environment
from i2v.setup.torch_build import choose_torch_build
from tests.stubs import card, stub_environment

ROOT = Path(__file__).parents[1]
PARTS = ("__init__.py", "whole_file.py", "setup", "locales")
TORCH = """
import os
__version__ = {version!r}
class version: cuda = None
class Tensor:
    T = property(lambda self: self)
    def reshape(self, *shape): return self
    def __matmul__(self, other): return self
    def sum(self): return 42.0
def arange(*_, **__): return Tensor()
ones = arange
class nn:
    class functional: conv2d = staticmethod(arange)
class cuda:
    def init():
        if "BROKEN_KERNEL" in os.environ: raise RuntimeError("no kernel image is available\\nmore")
    def device_count(): return 1
    def get_device_name(index): return "Card"
"""
APP = """
import json, os, signal, sys, time
from pathlib import Path
import torch
names = [n for n in os.environ if n in ("no_proxy", "NO_PROXY") or n.startswith(("GRADIO", "HF_", "CUDA", "PY", "SSL"))]
starts = Path("starts.jsonl")
before = starts.read_text() if starts.exists() else ""
seen = {"flags": sys.argv[1:], "torch": torch.__version__, "folder": os.getcwd(), **{n: os.environ[n] for n in names}}
starts.write_text(before + json.dumps(seen) + "\\n")
if "WAIT" in os.environ:
    count = 0
    def end(number, frame):
        with open("signals", "a") as file: file.write(f"{number} ")
        time.sleep(0.5)
        sys.exit(7)
    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    Path("ready").touch()
    time.sleep(60)
codes = os.environ.get("CODES", "0").split()
sys.exit(int(codes[min(before.count("\\n"), len(codes) - 1)]))
"""


class _Index(http.server.ThreadingHTTPServer):
    """`/simple` is the usual package index, `/whl/<build>` the builds of torch. Counts what is asked of it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.asked: list[str] = []
        self.wheels = {
            f"/{place}/torch/": wheel(folder, version)
            for place, version in (
                ("simple", "2.13.0"),
                ("whl/cpu", "2.13.0+cpu"),
                ("whl/cu126", "2.13.0+cu126"),
            )
        }


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Index

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        name = self.path.rsplit("/", 1)[-1]
        files = {path.name.replace("+", "%2B"): path for path in self.server.wheels.values()}
        if page := self.server.wheels.get(self.path):
            link = page.name.replace("+", "%2B")
            body, kind = f'<a href="/files/{link}">{page.name}</a>'.encode(), "text/html"
        elif name in files:
            body, kind = files[name].read_bytes(), "application/zip"
        else:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def wheel(folder: Path, version: str) -> Path:
    """A wheel of a torch that can do no more than the proof asks of it."""
    path = folder / f"torch-{version}-py3-none-any.whl"
    info = f"torch-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("torch/__init__.py", TORCH.format(version=version))
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


MODERN = (card("NVIDIA GeForce RTX 3060"),)
PASCAL = (card("NVIDIA GeForce GTX 1080", capability="6.1", total_gib=8),)


@dataclass
class Project:
    """A copy of what the start needs, in a folder with spaces, with an app that notes how it was started."""

    folder: Path
    index: _Index
    environ: dict[str, str] = field(default_factory=dict)

    def start(self, *flags: str, cards: tuple[str, ...] = ("init:9",), **environ: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            ["bash", self.folder / "start_app.sh", *flags],
            cwd="/",
            env=self.environment(cards) | environ,
            capture_output=True,
            text=True,
        )

    def environment(self, cards: tuple[str, ...] = ("init:9",)) -> dict[str, str]:
        """Nothing but the package index on loopback and the cards, in English."""
        stub = stub_environment(*cards)
        return {
            "PATH": os.environ["PATH"],
            "LD_LIBRARY_PATH": stub["LD_LIBRARY_PATH"],
            "NVML_STUB": stub["NVML_STUB"],
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_INDEX_URL": f"{self.index.url}/simple",
            "PIP_NO_CACHE_DIR": "1",
            "I2V_TORCH_INDEX": f"{self.index.url}/whl",
        }

    @property
    def starts(self) -> list[dict]:
        """How the app was started, each time."""
        with contextlib.suppress(FileNotFoundError):
            return [json.loads(line) for line in (self.folder / "starts.jsonl").read_text().splitlines()]
        return []

    @property
    def stamp(self) -> dict:
        return json.loads((self.folder / ".venv" / "i2v-stamp.json").read_text())

    @property
    def log(self) -> str:
        return (self.folder / "logs" / "setup.log").read_text()


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Index]:
    server = _Index(tmp_path_factory.mktemp("wheels"))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def bare_project(folder: Path, index: _Index) -> Project:
    (folder / "i2v").mkdir(parents=True)
    shutil.copy(ROOT / "start_app.sh", folder)
    for name in PARTS:
        copy = shutil.copytree if (ROOT / "i2v" / name).is_dir() else shutil.copy
        copy(ROOT / "i2v" / name, folder / "i2v" / name)
    (folder / "requirements.txt").write_text("# one\ntorch==2.13.0\n")
    (folder / "requirements-dev.txt").write_text("# none\n")
    (folder / "app.py").write_text(APP)
    return Project(folder, index)


@pytest.fixture(scope="module")
def set_up(tmp_path_factory: pytest.TempPathFactory, index: _Index) -> Project:
    """A project after its first start, on a machine with no card."""
    project = bare_project(tmp_path_factory.mktemp("first") / "a folder with spaces", index)
    first = project.start("--port", "8001")
    assert first.returncode == 0, first.stderr
    assert "processor is taken" in first.stderr
    assert [start["flags"] for start in project.starts] == [["--port", "8001"]]
    (project.folder / "starts.jsonl").unlink()
    return project


@pytest.fixture
def project(set_up: Project, tmp_path: Path) -> Project:
    """A copy of that project, to do as one likes with."""
    return copied(set_up, tmp_path)


@pytest.fixture(scope="module")
def with_card(set_up: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """That project after its machine has got a card."""
    project = copied(set_up, tmp_path_factory.mktemp("second"))
    started = project.start(cards=MODERN)
    assert started.returncode == 0, started.stderr
    return project


@pytest.fixture
def project_with_card(with_card: Project, tmp_path: Path) -> Project:
    """A copy of that one, before the app was started in it."""
    project = copied(with_card, tmp_path)
    (project.folder / "starts.jsonl").unlink()
    return project


def copied(project: Project, place: Path) -> Project:
    folder = place / "another folder with spaces"
    shutil.copytree(project.folder, folder, ignore=shutil.ignore_patterns(".venv"))
    # Links are as good as copies here: pip and the stamp replace files, they write into none.
    shutil.copytree(project.folder / ".venv", folder / ".venv", symlinks=True, copy_function=os.link)
    project.index.asked.clear()
    return Project(folder, project.index)


def test_the_first_start_sets_up_and_serves(set_up: Project) -> None:
    assert (set_up.stamp["build"], set_up.stamp["installed"]) == ("cpu", "cpu")
    assert set_up.stamp["proof"] == {"torch": "2.13.0+cpu", "card": "", "error": ""}
    assert "Successfully installed torch-2.13.0+cpu" in set_up.log


def test_the_second_start_installs_nothing_and_gives_the_app_its_flags_and_environment(project: Project) -> None:
    before = project.stamp, project.log
    flags = ("--listen", "--cpu", "--models", "my models")
    again = project.start(*flags, no_proxy="corp.example", CUDA_DEVICE_ORDER="x")
    assert (again.returncode, again.stderr) == (0, "")
    assert project.index.asked == []
    assert (project.stamp, project.log) == before
    start = project.starts[0]
    assert start["folder"] == str(project.folder)
    assert start["flags"] == ["--listen", "--cpu", "--models", "/my models"]
    assert start["no_proxy"] == "corp.example,localhost,127.0.0.1,::1"
    assert start["NO_PROXY"] == "localhost,127.0.0.1,::1"
    assert start["GRADIO_ANALYTICS_ENABLED"] == "False"
    assert start["HF_HUB_DISABLE_TELEMETRY"] == "1"
    assert start["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def test_what_is_meant_for_other_programs_stops_no_start_and_is_told(project: Project) -> None:
    for_another = {"PYTHONHOME": "/nowhere", "PYTHONPATH": "/nowhere/lib", "PYTHONHASHSEED": "x"}
    started = project.start("--cpu", SSL_CERT_FILE="/nowhere/ca.pem", ALL_PROXY="socks4://proxy:1", **for_another)
    assert started.returncode == 0, started.stderr
    assert [line.partition(":")[2].strip() for line in started.stderr.splitlines() if "of its own" in line] == [
        "PYTHONHASHSEED, PYTHONHOME, PYTHONPATH"
    ]
    assert "SSL_CERT_FILE names /nowhere/ca.pem" in started.stderr
    assert "ALL_PROXY names a proxy" in started.stderr
    assert not project.starts[0].keys() & {"SSL_CERT_FILE", *for_another}


def test_an_old_card_gets_its_build_and_proves_it(project_with_card: Project) -> None:
    project = project_with_card
    started = project.start(cards=PASCAL)
    assert started.returncode == 0, started.stderr
    assert "CUDA 12.6 build" in started.stderr
    assert project.starts[0]["torch"] == "2.13.0+cu126"
    assert project.stamp["proof"]["card"] == "compute capability 6.1, driver 580.65.06"
    assert "/whl/cpu/torch/" not in project.index.asked


def test_a_card_that_has_come_gets_the_default_build(with_card: Project) -> None:
    """To pip the processor's build is the right version too, so it must be out of the way."""
    assert with_card.starts[0]["torch"] == "2.13.0"
    assert with_card.starts[0]["flags"] == []


def test_where_the_builds_index_is_out_of_reach_the_default_is_taken_once(project_with_card: Project) -> None:
    project = project_with_card
    started = project.start(cards=PASCAL, I2V_TORCH_INDEX="http://127.0.0.1:1/whl")
    assert started.returncode == 0, started.stderr
    assert "http://127.0.0.1:1/whl/cu126 is out of reach" in started.stderr
    assert (project.stamp["build"], project.stamp["installed"]) == ("cu126", "default")
    assert project.starts[0]["torch"] == "2.13.0"
    project.index.asked.clear()
    assert project.start(cards=PASCAL).stderr == ""
    assert project.index.asked == []


def test_an_index_without_a_fitting_wheel_is_said_and_the_default_taken(project_with_card: Project) -> None:
    project = project_with_card
    wheels = project.index.wheels
    project.index.wheels = wheels | {"/whl/cu126/torch/": wheels["/whl/cpu/torch/"]}
    try:
        started = project.start(cards=PASCAL)
    finally:
        project.index.wheels = wheels
    assert "has no build that fits" in started.stderr
    assert project.starts[0]["torch"] == "2.13.0"


def test_a_card_without_a_usable_kernel_is_not_used_and_the_person_told(project_with_card: Project) -> None:
    project = project_with_card
    odd = (card("NVIDIA GeForce RTX 4060", capability="8.9"),)
    started = project.start(cards=odd, BROKEN_KERNEL="1")
    assert "cannot compute on this card" in started.stderr
    assert "no kernel image is available." in started.stderr
    assert project.starts[0]["flags"] == ["--cpu"]
    # Another card or driver is tried anew; the same one is not.
    project.start(cards=odd)
    project.start(cards=MODERN)
    assert [start["flags"] for start in project.starts] == [["--cpu"], ["--cpu"], []]


def test_code_42_starts_again_but_repairs_once_also_without_a_path_or_a_home(project: Project) -> None:
    environ = {name: value for name, value in project.environment().items() if name != "PATH"}
    command = [shutil.which("bash"), project.folder / "start_app.sh", "--repair", "--port", "8001"]
    started = subprocess.run(command, env=environ | {"CODES": "42 42 5"}, capture_output=True, text=True)
    assert started.returncode == 5, started.stderr
    assert [start["flags"] for start in project.starts] == [["--port", "8001"]] * 3
    assert started.stderr.count("Making the Python environment") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("to_group", [False, True], ids=["to the script", "from a terminal"])
def test_a_signal_reaches_the_app_once_and_its_exit_code_is_kept(
    project: Project, number: signal.Signals, to_group: bool
) -> None:
    environ = project.environment() | {"WAIT": "1"}
    command = ["bash", project.folder / "start_app.sh"]
    with subprocess.Popen(command, env=environ, start_new_session=True) as running:
        while not (project.folder / "ready").exists():
            assert running.poll() is None
            time.sleep(0.02)
        (os.killpg if to_group else os.kill)(running.pid, number)
        assert running.wait(timeout=100) == 7
    assert (project.folder / "signals").read_text().split() == [str(int(number))]


def test_a_failed_install_names_the_next_step_and_the_log(project_with_card: Project) -> None:
    project = project_with_card
    (project.folder / "requirements.txt").write_text("torch==9.9.9\n")
    failed = project.start(cards=MODERN)
    assert failed.returncode == 1
    assert "no version of torch==9.9.9" in failed.stderr
    assert "What to do next: " in failed.stderr
    assert f"{project.folder}/logs/setup.log" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert "No matching distribution" in project.log
    assert project.starts == []


def test_an_index_that_cannot_be_reached_is_told_from_a_missing_wheel(project_with_card: Project) -> None:
    project = project_with_card
    (project.folder / "requirements.txt").write_text("torch==9.9.9\n")
    failed = project.start(cards=MODERN, PIP_INDEX_URL="http://127.0.0.1:1/simple", PIP_RETRIES="1")
    assert failed.returncode == 1
    assert "PIP_INDEX_URL" in failed.stderr


def test_two_starts_at_once_finish_a_half_made_environment_once_with_what_the_tests_need(project: Project) -> None:
    (project.folder / ".venv" / "i2v-stamp.json").unlink()
    flags = ("--setup-only", "--dev")
    command = ["bash", project.folder / "start_app.sh", *flags]
    both = [subprocess.Popen(command, env=project.environment(), stderr=subprocess.PIPE, text=True) for _ in range(2)]
    told = [start.communicate(timeout=120)[1] for start in both]
    assert [start.returncode for start in both] == [0, 0], told
    assert sum("Installing what the app needs" in text for text in told) == 1
    assert project.stamp["installed"] == "cpu"
    assert project.stamp["dev"]
    assert project.start(*flags).stderr == ""
    assert project.starts == []


def test_an_environment_whose_python_is_gone_is_made_anew(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """How it is made is seen with the first start and with --repair."""
    python = project.folder / ".venv" / "bin" / "python"
    there = python.readlink()
    python.unlink()
    python.symlink_to("/nowhere/python3")
    made = []

    def create(environment: Environment, log: TextIO) -> None:
        made.append(environment.folder)
        python.unlink()
        python.symlink_to(there)

    monkeypatch.setattr(Environment, "_create", create)
    stamp = Environment(project.folder).ensure(choose_torch_build(None, None), None)
    assert made == [project.folder / ".venv"]
    assert stamp.installed == "cpu"


# --- what is refused before anything is done ---


@pytest.fixture
def bare(tmp_path: Path, index: _Index, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project before its first start, in which `launcher.main` runs in this process, with texts in English."""
    project = bare_project(tmp_path / "new", index)
    monkeypatch.setattr(launcher, "ROOT", project.folder)
    monkeypatch.setenv("LC_ALL", "C")
    return project


def test_the_script_ends_as_the_launcher_says(bare: Project) -> None:
    refused = bare.start("--lisen")
    assert refused.returncode == 2
    assert "Did you mean --listen" in refused.stderr


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("--lisen", "Did you mean --listen"),
        ("--xyzzy", "no flag --xyzzy"),
        ("--port=0", "1 to 65535"),
        ("--port=http", "1 to 65535"),
        ("--simulate=-3", "GiB above 0"),
        ("stray", "stray"),
    ],
)
def test_a_wrong_flag_is_refused_before_anything_is_done(
    bare: Project, flag: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        launcher.main([flag])
    assert left.value.code == 2
    told = capsys.readouterr().err
    assert says in told
    assert told.count("\n") == 1
    assert not (bare.folder / ".venv").exists()


@pytest.mark.usefixtures("bare")
def test_help_names_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        launcher.main(["--help"])
    assert not left.value.code
    text = capsys.readouterr().out
    for flag in ("listen", "port", "preset", "gpu", "cpu", "models", "check", "repair", "plan-only", "simulate"):
        assert f"--{flag}" in text


@pytest.mark.usefixtures("bare")
def test_texts_follow_the_terminals_language(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    with pytest.raises(SystemExit):
        launcher.main(["--xyzzy"])
    assert "没有 --xyzzy 这个参数" in capsys.readouterr().err


def test_a_folder_that_cannot_be_used_is_named(bare: Project, capsys: pytest.CaptureFixture[str]) -> None:
    (bare.folder / "logs").write_text("a file stands where the folder should be")
    assert launcher.main(["--setup-only"]) == 1
    told = capsys.readouterr().err
    assert f"could not use {bare.folder}/logs" in told
    assert "Traceback" not in told


@pytest.mark.parametrize(("language", "says"), [("C", "apt install python3"), ("zh_CN.UTF-8", "请运行")])
def test_without_a_python_it_says_what_to_install(tmp_path: Path, index: _Index, language: str, says: str) -> None:
    project = bare_project(tmp_path / "new", index)
    old = tmp_path / "bin"
    old.mkdir()
    (old / "dirname").symlink_to(shutil.which("dirname"))
    (old / "python3").write_text("#!/bin/sh\nexit 1\n")
    (old / "python3").chmod(0o755)
    bash = shutil.which("bash")
    command = [bash, project.folder / "start_app.sh"]
    refused = subprocess.run(command, env={"PATH": str(old), "LANG": language}, capture_output=True, text=True)
    assert refused.returncode == 1
    assert says in refused.stderr
