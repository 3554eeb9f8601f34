"""What `start_app.sh` runs: makes the environment if need be, then becomes the app.

    bash start_app.sh                 set up on the first start, then serve the page
    bash start_app.sh --check         set up, test, print a report for a bug report, exit
    bash start_app.sh --plan-only     print the probe and the chosen preset as JSON, exit

Bare Python >= 3.11 until the app takes over. The second start finds the stamp, installs nothing and asks no network.
"""

from __future__ import annotations

import argparse
import difflib
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from i2v.setup.bare_texts import render
from i2v.setup.surroundings import clean, refuse_windows

refuse_windows()  # before what only other systems have is imported

from i2v.setup.environment import Environment, SetupError, os_error, say  # noqa: E402
from i2v.setup.torch_build import choose_torch_build, see_card  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
MIN_PYTHON = (3, 11)
EXIT_SETUP_FAILED = 1
EXIT_BAD_FLAG = 2
IGNORED = "START_APP_IGNORED"
"""Set by start_app.sh: the variables of another Python, which it has taken away."""
RESTARTED = "START_APP_RESTARTED"
"""Set by start_app.sh when the app asked to be started again: what was asked for once is then not done again."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs from `start_app.sh`. Returns an exit code only where the app is not to be started: 0, 1 when the set-up
    failed, 2 for a bad flag, 130 when interrupted."""
    if sys.version_info < MIN_PYTHON:
        say("launcher.old_python", version=platform.python_version())
        return EXIT_SETUP_FAILED
    arguments = sys.argv[1:] if argv is None else list(argv)
    parser = _parser()
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        parser.refuse_unknown(unknown[0])
    _leave_what_is_foreign()
    environment = Environment(ROOT)
    card = see_card()
    build = choose_torch_build(
        card.compute_capability if card else None, card.driver_version if card else None, system=platform.system()
    )
    repair = options.repair and RESTARTED not in os.environ
    try:
        stamp = environment.ensure(build, card, dev=options.dev, repair=repair)
    except SetupError as error:
        return _failed(error, environment)
    except OSError as error:
        return _failed(os_error(error), environment)
    except KeyboardInterrupt:
        say("launcher.interrupted")
        return 130
    if options.setup_only:
        return 0
    if stamp.proof.error and card and not options.cpu:
        say("launcher.kernel_failed", torch=stamp.proof.torch, card=card, error=stamp.proof.error)
        options.cpu = True
    if options.models is not None:
        options.models = os.path.join(os.environ.get("START_APP_CALLED_FROM", ""), os.path.expanduser(options.models))
    return _become([str(environment.python), *command(options)], os.environ)


def command(options: argparse.Namespace) -> list[str]:
    """What the environment's Python is to run: the app, or what --check and --plan-only ask for."""
    machine = ["--cpu"] if options.cpu else []
    for name in ("gpu", "preset", "models", "simulate"):
        if (value := getattr(options, name)) is not None:
            machine += [f"--{name}", str(value)]
    if options.check:
        return ["-m", "i2v", "doctor", *machine]
    if options.plan_only:
        return ["-m", "i2v.cli.plan_only", *machine]
    listening = ["--listen"] if options.listen else []
    port = ["--port", str(options.port)] if options.port is not None else []
    return ["app.py", *listening, *port, *machine]


def _leave_what_is_foreign() -> None:
    """For the set-up, its pip and the app: variables that name what cannot be used, each told once."""
    if ignored := os.environ.pop(IGNORED, ""):
        say("launcher.python_variables", variables=ignored)
    for aside in clean(os.environ, socks=True):  # whether the app can use SOCKS it sees itself
        print(aside.render(), file=sys.stderr, flush=True)


def _failed(error: SetupError, environment: Environment) -> int:
    print(error, file=sys.stderr)
    say("launcher.next_step", step=error.next_step)
    say("launcher.log", path=environment.log)
    return EXIT_SETUP_FAILED


def _become(arguments: list[str], environ: Mapping[str, str]) -> NoReturn:
    """Replaces this process, so that signals and exit codes need no relay."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.chdir(ROOT)
    os.execve(arguments[0], arguments, dict(environ))


class _Parser(argparse.ArgumentParser):
    """Errors in the person's language, with the nearest flag named."""

    def error(self, message: str) -> NoReturn:
        say("launcher.bad_flag", error=message)
        sys.exit(EXIT_BAD_FLAG)

    def refuse_unknown(self, flag: str) -> NoReturn:
        known = [name for name in self._option_string_actions if name.startswith("--")]
        near = difflib.get_close_matches(flag.split("=")[0], known, n=1)
        if near:
            say("launcher.unknown_flag_near", flag=flag, near=near[0])
        else:
            say("launcher.unknown_flag", flag=flag)
        sys.exit(EXIT_BAD_FLAG)


def _parser() -> _Parser:
    parser = _Parser(prog="start_app.sh", allow_abbrev=False, description=render("launcher.help"))
    add = parser.add_argument
    add("--listen", action="store_true", help=render("launcher.help_listen"))
    add("--port", type=_port, metavar="N", help=render("launcher.help_port"))
    add("--preset", metavar="NAME", help=render("launcher.help_preset"))
    add("--gpu", metavar="N|UUID", help=render("launcher.help_gpu"))
    add("--cpu", action="store_true", help=render("launcher.help_cpu"))
    add("--models", metavar="DIR", help=render("launcher.help_models"))
    add("--simulate", type=_gib, metavar="GIB", help=render("launcher.help_simulate"))
    add("--check", action="store_true", help=render("launcher.help_check"))
    add("--repair", action="store_true", help=render("launcher.help_repair"))
    add("--plan-only", action="store_true", help=render("launcher.help_plan_only"))
    add("--setup-only", action="store_true", help=render("launcher.help_setup_only"))
    add("--dev", action="store_true", help=render("launcher.help_dev"))
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(render("launcher.bad_port", value=text))
    return int(text)


def _gib(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(render("launcher.bad_gib", value=text))
    return value


if __name__ == "__main__":
    sys.exit(main())
