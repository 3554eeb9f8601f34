"""The virtual environment: made, filled, proved, and stamped so that the next start can skip all of it.

Bare Python: this runs before anything is installed. What pip says goes to `logs/setup.log`, its milestones to the
terminal.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

from i2v.setup.bare_texts import render
from i2v.setup.torch_build import DriverCard, TorchBuild, build_names, reachable
from i2v.whole_file import write_whole

_PROOF = """
import json, torch
result = {"torch": torch.__version__, "cuda": torch.version.cuda, "card": None, "error": None}
def compute(device):
    a = torch.arange(64.0, device=device).reshape(1, 1, 8, 8)
    b = torch.nn.functional.conv2d(a, torch.ones(1, 1, 3, 3, device=device))
    return float((b.reshape(6, 6) @ b.reshape(6, 6).T).sum())
expected = compute("cpu")
try:
    if CARD:
        torch.cuda.init()
        for index in range(torch.cuda.device_count()):
            result["card"] = torch.cuda.get_device_name(index)
            if abs(compute(f"cuda:{index}") - expected) > 1e-3 * abs(expected):
                raise RuntimeError("the card computes wrong results")
except Exception as error:
    result["error"] = str(error).strip().splitlines()[0]
print(json.dumps(result))
"""
"""Runs a convolution and a matrix product, because torch.cuda.is_available() is true without one usable kernel."""


class SetupError(Exception):
    """The set-up cannot go on: the message says what happened, `next_step` the one thing to do."""

    def __init__(self, message_id: str, next_step_id: str, **params: object) -> None:
        self.next_step = render(next_step_id, **params)
        super().__init__(render(message_id, **params))


@dataclass(frozen=True)
class Proof:
    """The outcome of a kernel run. `card` is the card and driver it ran for, "" for the processor; `error` is empty
    when it worked."""

    torch: str
    card: str = ""
    error: str = ""


@dataclass(frozen=True)
class Stamp:
    """What the environment was made from. `build` was wanted; `installed` is what could be had."""

    requirements: str
    python: str
    platform: str
    build: str
    installed: str = ""
    dev: str = ""
    proof: Proof = field(default_factory=lambda: Proof(torch=""))

    def serves(self, wanted: Stamp) -> bool:
        """Whether an environment with this stamp is what is wanted now. Any build computes on a processor, so a card
        that is gone today is no reason to install torch again."""
        return (
            (self.requirements, self.python, self.platform) == (wanted.requirements, wanted.python, wanted.platform)
            and (self.build == wanted.build or wanted.build == "cpu")
            and (not wanted.dev or self.dev == wanted.dev)
        )

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Stamp:
        return cls(**{**values, "proof": Proof(**values["proof"])})


class Environment:
    """`.venv` in the project's folder. `python` is its interpreter, `log` where the set-up is told in full."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / ".venv"
        self.python = self.folder / "bin" / "python"
        self.stamp_path = self.folder / "i2v-stamp.json"
        self.log = root / "logs" / "setup.log"

    def ensure(self, build: TorchBuild, card: DriverCard | None, *, dev: bool = False, repair: bool = False) -> Stamp:
        """The environment as wanted, made only where it is not there yet. Raises SetupError."""
        if not repair and (stamp := self._current(build, card, dev)):
            return stamp
        with self._set_up_alone() as log:
            if repair or self._python_version() is None:
                self._create(log)
            stamp, wanted = self.read_stamp(), self._wanted(build, dev)
            if stamp is None or not stamp.serves(wanted):
                self.stamp_path.unlink(missing_ok=True)
                stamp = replace(wanted, installed=self._install(build, dev, log))
            if not self._proved(stamp, card):
                stamp = replace(stamp, proof=self._prove(card, log))
            write_whole(self.stamp_path, json.dumps(asdict(stamp), indent=2))
        return stamp

    def read_stamp(self) -> Stamp | None:
        """What the last complete set-up left, or None."""
        try:
            return Stamp.from_json(json.loads(self.stamp_path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, KeyError):
            return None

    @contextlib.contextmanager
    def _set_up_alone(self) -> Iterator[TextIO]:
        """The log, emptied, and the lock on it: a second start at the same time waits, and finds the work done."""
        self.log.parent.mkdir(exist_ok=True)
        with self.log.open("a", encoding="utf-8") as log:
            try:
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("launcher.waiting")
                fcntl.flock(log, fcntl.LOCK_EX)
            log.truncate(0)
            yield log

    def _current(self, build: TorchBuild, card: DriverCard | None, dev: bool) -> Stamp | None:
        stamp = self.read_stamp()
        serves = stamp is not None and stamp.serves(self._wanted(build, dev)) and self._proved(stamp, card)
        return stamp if serves else None

    def _proved(self, stamp: Stamp, card: DriverCard | None) -> bool:
        """A new driver or card asks for a new proof; an absent one does not."""
        return bool(stamp.proof.torch) and (card is None or stamp.proof.card == str(card))

    def _wanted(self, build: TorchBuild, dev: bool) -> Stamp:
        return Stamp(
            requirements=_sha256(self.root / "requirements.txt"),
            python=self._python_version() or "",
            platform=f"{platform.system()}-{platform.machine()}",
            build=build.name,
            dev=_sha256(self.root / "requirements-dev.txt") if dev else "",
        )

    def _python_version(self) -> str | None:
        """ "3.11" as the environment's interpreter says itself; None when it does not run or lost its packages,
        as after an upgrade of the system's Python."""
        script = "import sys, pip; print('%d.%d' % sys.version_info[:2])"
        try:
            run = subprocess.run([self.python, "-c", script], capture_output=True, text=True, timeout=60)
        except OSError:
            return None
        return run.stdout.strip() if run.returncode == 0 else None

    def _create(self, log: TextIO) -> None:
        say("launcher.creating")
        # Not the interpreter that runs us when that is the very environment to be replaced.
        base = getattr(sys, "_base_executable", None) or sys.executable
        run = subprocess.run([base, "-m", "venv", "--clear", self.folder], stdout=log, stderr=subprocess.STDOUT)
        if run.returncode:
            version = "{}.{}".format(*sys.version_info)
            raise SetupError("launcher.no_venv", "launcher.next_venv", version=version)

    def _install(self, build: TorchBuild, dev: bool, log: TextIO) -> str:
        """Installs everything; returns the name of the torch build that was asked for in the end."""
        installed = "default"
        say(build.reason)
        self._clear_way_for(build, log)
        if build.index_url and (version := self._torch_version()):
            if not reachable(build.index_url):
                say("launcher.index_unreachable", index=build.index_url)
            elif self._pip(["install", build.requirement(version), "--index-url", build.index_url], log):
                say("launcher.index_failed", index=build.index_url)
            else:
                installed = build.name
        say("launcher.installing")
        files = ["requirements.txt", *(["requirements-dev.txt"] if dev else [])]
        arguments = [argument for file in files for argument in ("-r", str(self.root / file))]
        if output := self._pip(["install", *arguments], log):
            raise install_error(output)
        return installed

    def _clear_way_for(self, build: TorchBuild, log: TextIO) -> None:
        """Removes another build of torch, which pip would take for the version that is wanted."""
        script = "import importlib.metadata as m; print(m.version('torch').partition('+')[2])"
        present = subprocess.run([self.python, "-c", script], capture_output=True, text=True).stdout.strip()
        if present in build_names() and present != build.name:
            self._pip(["uninstall", "--yes", "torch"], log)

    def _torch_version(self) -> str | None:
        lines = (self.root / "requirements.txt").read_text(encoding="utf-8").splitlines()
        return next((found[1] for line in lines if (found := re.match(r"torch==([\w.]+)", line))), None)

    def _pip(self, arguments: list[str], log: TextIO) -> str:
        """Runs pip; returns "" when that worked, else the end of what it said."""
        command = [self.python, "-m", "pip", *arguments, "--no-input"]
        environ = os.environ | {
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_USER": "0",
            "PIP_PROGRESS_BAR": "off",
            "PYTHONUNBUFFERED": "1",
        }
        print("$", *command, file=log, flush=True)
        output: list[str] = []
        with subprocess.Popen(
            command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        ) as pip:
            for line in pip.stdout or ():
                log.write(line)
                output = [*output[-40:], line]
                if re.match(r"\s*(Downloading (?!.*\.metadata)|Installing collected)", line):
                    print("  " + line.strip()[:110], file=sys.stderr)
        return f"{''.join(output)}\nexit code {pip.returncode}" if pip.returncode else ""

    def _prove(self, card: DriverCard | None, log: TextIO) -> Proof:
        """Runs a kernel on the card, or on the processor where there is none. Raises SetupError without any torch."""
        say("launcher.proving")
        script = f"CARD = {card is not None}\n{_PROOF}"
        run = subprocess.run([self.python, "-c", script], capture_output=True, text=True)
        log.write(run.stdout + run.stderr)
        if run.returncode:
            raise SetupError("launcher.torch_broken", "launcher.next_repair", error=_last_line(run.stderr))
        result = json.loads(run.stdout.splitlines()[-1])
        return Proof(torch=result["torch"], card=str(card or ""), error=result["error"] or "")


def install_error(output: str) -> SetupError:
    """The cause of pip's failure as far as its words tell it, and what to do about it."""
    for pattern, message_id, next_step_id in (
        (r"No space left on device", "launcher.disk_full", "launcher.next_disk"),
        (r"Missing dependencies for SOCKS", "launcher.socks_installer", "launcher.next_socks"),
        (r"Permission denied", "launcher.permission", "launcher.next_permission"),
        (
            r"NewConnectionError|NameResolution|ConnectTimeout|Read timed out|ProxyError|SSLError|Max retries",
            "launcher.network",
            "launcher.next_network",
        ),
        (r"No matching distribution found for (\S+)", "launcher.no_wheel", "launcher.next_wheel"),
        (r"exit code -9$", "launcher.killed", "launcher.next_killed"),
    ):
        if found := re.search(pattern, output):
            return SetupError(message_id, next_step_id, what=found[found.re.groups])
    return SetupError("launcher.pip_failed", "launcher.next_log", error=_last_line(output.rpartition("\n")[0]))


def os_error(error: OSError) -> SetupError:
    """What the system refused while the environment was made, and what to do about it."""
    if error.errno == errno.ENOSPC:
        return SetupError("launcher.disk_full", "launcher.next_disk")
    return SetupError("launcher.refused", "launcher.next_permission", path=error.filename, error=error.strerror)


def say(message_id: str, **params: object) -> None:
    """One line to the person; standard output stays free for results."""
    print(render(message_id, **params), file=sys.stderr, flush=True)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""
