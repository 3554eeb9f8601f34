"""The worker's life: bind to the parent, read commands in a thread, run jobs one after the other.

Torch wants the main thread, so jobs run there; commands are read beside them, so that a cancel arrives in the middle
of a step and the end of the parent ends us at any moment.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import BinaryIO

from i2v.wire.worker import (
    EXIT_CARD_LOST,
    Cancel,
    Idle,
    Pause,
    ProtocolError,
    Report,
    Run,
    Started,
    decode_command,
    encode,
)
from i2v.worker.life import end_with_parent, take_stdin
from i2v.worker.run import GenerationEngine, Runner

log = logging.getLogger(__name__)

EXIT_PROTOCOL = 64


def real_engine() -> GenerationEngine:
    """The engine of this project. Imports torch."""
    from i2v.engine.engine import Engine

    return Engine()


def main(argv: Sequence[str], engine_factory: Callable[[], GenerationEngine] = real_engine) -> int:
    """Serve until the parent hangs up or dies; the process then ends at once, in whatever it does.

    `engine_factory` is called with the first job, after it was reported as started.
    """
    parser = argparse.ArgumentParser(prog="i2v.worker")
    parser.add_argument("--reports", type=int, required=True, help="file descriptor the reports go to")
    parser.add_argument("--parent", type=int, required=True, help="process id of the service")
    options = parser.parse_args(argv)

    end_with_parent(options.parent)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    os.set_inheritable(options.reports, False)
    Service(take_stdin(), os.fdopen(options.reports, "wb")).serve(engine_factory)
    return 0


class Service:
    """The worker's end of the two pipes."""

    def __init__(self, commands: BinaryIO, reports: BinaryIO) -> None:
        self._commands = commands
        self._reports = reports
        self._reporting = threading.Lock()
        self._runs: SimpleQueue[Run] = SimpleQueue()
        self._cancelled: set[str] = set()
        self._paused: set[str] = set()

    def serve(self, engine_factory: Callable[[], GenerationEngine]) -> None:
        """Run jobs for ever; the thread that reads commands ends the process."""
        threading.Thread(target=self._read_commands, name="commands", daemon=True).start()
        runner = Runner(engine_factory)
        while True:
            run = self._runs.get()
            job_id = run.job_id
            self._report(Started(job_id, os.getpid()))
            usable = runner.run(
                run,
                self._report,
                cancelled=lambda job_id=job_id: job_id in self._cancelled,
                paused=lambda job_id=job_id: job_id in self._paused,
            )
            if not usable:
                sys.stderr.flush()
                os._exit(EXIT_CARD_LOST)  # an orderly exit would ask the card for its memory back
            self._cancelled.discard(job_id)
            self._paused.discard(job_id)
            self._report(Idle(job_id))

    def _report(self, report: Report) -> None:
        line = encode(report)
        with self._reporting:
            self._reports.write(line)
            self._reports.flush()

    def _read_commands(self) -> None:
        code = 0
        try:
            for line in self._commands:
                match decode_command(line):
                    case Run() as run:
                        self._runs.put(run)
                    case Cancel(job_id=job_id):
                        self._cancelled.add(job_id)
                    case Pause(job_id=job_id):
                        self._paused.add(job_id)
        except ProtocolError as error:
            log.error("A command could not be read: %s", error)
            code = EXIT_PROTOCOL
        finally:
            # Nobody commands us any more, or nobody we understand. A job in the middle of a step would go on for
            # minutes and hold the card, and an orderly exit would wait for it.
            sys.stderr.flush()
            os._exit(code)
