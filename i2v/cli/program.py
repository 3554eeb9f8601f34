"""From words to exit code: takes the command line apart, runs the command, and turns whatever goes wrong into a
message. A traceback goes to logs/app.log and never to the person."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from logging.handlers import RotatingFileHandler
from pathlib import Path

from i2v.cli.arguments import JOB_COMMANDS, Arguments, parse
from i2v.cli.exits import Exit, exit_for
from i2v.cli.machine import probe_json, probe_text
from i2v.cli.terminal import terminal_locale
from i2v.events import Failed, to_json
from i2v.messages import LOCALES, Message, UserError, message
from i2v.request import AUTO
from i2v.settings.keys import KEYS
from i2v.settings.settings import ROOT, Settings, settings_and_probe
from i2v.video.metadata import read_made_here

log = logging.getLogger(__name__)
_LOGGER = logging.getLogger("i2v")

LOG_NAME = "app.log"
_LOG_BYTES = 2**20
_LOGS_KEPT = 3


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; `argv` without the program's name, None for this process's. Returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character gets a substitute, not an error.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    program = _Program(_early_locale(argv), as_json="--json" in argv)
    try:
        return program.run(argv)
    except SystemExit as leaving:  # --help and --version are through
        return int(leaving.code or 0)
    except UserError as error:
        program.refuse(error.message)
        return exit_for(error.message, Exit.BAD_INPUT)
    except KeyboardInterrupt:
        return Exit.CANCELLED
    except BrokenPipeError:
        # Whoever read our output has left; Python would complain at exit about what is still in the buffer.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FAILED
    except Exception as error:
        if not program.logs:  # before the settings told where the log is
            _log_to(program.log_path)
        log.exception("A command failed unexpectedly")
        program.refuse(message("cli.unexpected", error=f"{type(error).__name__}: {error}", log=str(program.log_path)))
        return Exit.FAILED


class _Program:
    """One run of the command line: the language it speaks, where its log is, and whether it logs there yet."""

    def __init__(self, locale: str, *, as_json: bool) -> None:
        self.locale = locale
        self.as_json = as_json
        self.logs = False
        self.log_path = ROOT / KEYS["logs_dir"].default / LOG_NAME

    def run(self, argv: Sequence[str]) -> int:
        arguments = parse(argv, self.locale)
        if arguments.command == "show":
            return self._show(arguments)
        if arguments.command in JOB_COMMANDS and not arguments.job:
            raise UserError("cli.job_missing", command=arguments.command)
        settings, probe = settings_and_probe(overrides=arguments.overrides)
        self._use(settings)
        match arguments.command:
            case "probe":
                reading = probe.read()
                print(probe_json(settings, reading) if arguments.json else probe_text(settings, reading, self.locale))
                return Exit.DONE
            case "doctor":
                from i2v.cli.doctor import report

                text, healthy = report(replace(settings, language=self.locale), probe.read())
                print(text)
                return Exit.DONE if healthy else Exit.FAILED
            case "plan":
                from i2v.cli.plan import plan, table

                if arguments.table:
                    return table(as_json=arguments.json)
                return plan(
                    arguments.values, settings, probe,
                    as_json=arguments.json, explain=arguments.explain, locale=self.locale,
                )  # fmt: skip
            case "models":
                from i2v.cli.models import models

                return models(arguments.values, settings, probe, as_json=arguments.json, locale=self.locale)
            case "serve":
                from i2v.ui.serve import serve

                return serve(settings, probe, mcp=arguments.mcp)
            case "jobs":
                from i2v.cli.listing import jobs

                return jobs(settings, probe, as_json=arguments.json, locale=self.locale)
            case "pause" | "resume":
                from i2v.cli.listing import steer

                return steer(arguments.command, arguments.job, settings, probe, locale=self.locale)
            case "export":
                from i2v.cli.export import export

                to = Path(arguments.file) if arguments.file else None
                return export(arguments.job, arguments.values, to, settings, probe)
            case "steadiness":
                from i2v.cli.steadiness import steadiness

                to = Path(arguments.file) if arguments.file else None
                return steadiness(
                    arguments.job, to, settings, probe, as_json=arguments.json, locale=self.locale
                )  # fmt: skip
            case "train":
                from i2v.cli.train import train

                return train(arguments.values, settings, probe, as_json=arguments.json, locale=self.locale)
            case "retry" | "redecode" | "extend":
                from i2v.cli.generate import again

                return again(
                    arguments.command, arguments.job, arguments.values, settings, probe,
                    as_json=arguments.json, locale=self.locale,
                )  # fmt: skip
        from i2v.cli.generate import generate

        return generate(arguments.values, settings, probe, as_json=arguments.json, locale=self.locale)

    def refuse(self, text: Message) -> None:
        """Say why the command ends: to a person on stderr, and to a program as the last event on stdout."""
        print(text.render(self.locale), file=sys.stderr)
        if self.as_json:
            print(json.dumps(to_json(Failed(text)), ensure_ascii=False))

    def _use(self, settings: Settings) -> None:
        if settings.language != AUTO:
            self.locale = settings.language
        self.log_path = settings.logs_dir / LOG_NAME
        self.logs = True
        if not _log_to(self.log_path):
            print(message("cli.no_log", log=str(self.log_path)).render(self.locale), file=sys.stderr)

    def _show(self, arguments: Arguments) -> Exit:
        if arguments.file is None:
            raise UserError("cli.file_missing")
        metadata, _ = read_made_here(Path(arguments.file))
        print(json.dumps(metadata, indent=2, ensure_ascii=False))
        return Exit.DONE


def _early_locale(argv: Sequence[str]) -> str:
    """The language before the settings are read: --lang, I2V_LANGUAGE, or the terminal's."""
    words = list(argv)
    typed = next((word.partition("=")[2] for word in words if word.startswith("--lang=")), None)
    if "--lang" in words[:-1]:
        typed = words[words.index("--lang") + 1]
    try:
        chosen = KEYS["language"].kind.parse(typed or os.environ.get("I2V_LANGUAGE"), "--lang")
    except UserError:  # told when the settings are read
        chosen = AUTO
    return chosen if chosen in LOCALES else terminal_locale()


def _log_to(path: Path) -> bool:
    """Send the app's own log to `path`, whatever happens in whichever thread; False where that cannot be written."""
    logging.raiseExceptions = False  # a full disk must not print tracebacks
    threading.excepthook = lambda args: log.error("A thread failed", exc_info=args.exc_value)
    _LOGGER.setLevel(logging.INFO)
    for earlier in _LOGGER.handlers:  # of a command before this one in the same process
        earlier.close()
    handler: logging.Handler = logging.NullHandler()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = RotatingFileHandler(path, maxBytes=_LOG_BYTES, backupCount=_LOGS_KEPT, encoding="utf-8")
    except OSError:
        return False
    finally:
        _LOGGER.handlers = [handler]
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    return True
