"""The planning child as its parent holds it: started with the first question, warm from then on."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from i2v.jobs.child import worker_environment
from i2v.messages import UserError
from i2v.plan import Plan
from i2v.planning.known import Found
from i2v.request import GenerationRequest

log = logging.getLogger(__name__)

COMMAND = (sys.executable, "-m", "i2v.worker.dry")
_ROOT = Path(__file__).parents[2]


class DryChild:
    """May be asked from any thread; answers come one after the other. `close` it when done."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._asking = threading.Lock()
        self._closed = False

    def warm_up(self) -> None:
        """Start it, so that the first question need not wait for that. Returns at once."""
        with self._asking, suppress(UserError):  # closed meanwhile
            self._start()

    def run(self, family: str, folder: Path | None, request: GenerationRequest, plan: Plan) -> Found:
        """What this job's dry run finds. Raises UserError where the model's configuration makes none possible."""
        line = json.dumps(
            {
                "family": family,
                "folder": None if folder is None else str(folder),
                "request": request.to_json(),
                "plan": plan.to_json(),
            }
        )
        with self._asking:
            process = self._start()
            try:
                process.stdin.write(line + "\n")
                process.stdin.flush()
                answer = process.stdout.readline()
            except OSError:
                answer = ""
            if not answer:
                code, self._process = process.wait(), None
                raise UserError("planning.child_ended", code=code)
        answered = json.loads(answer)
        if "error" in answered:
            raise UserError("planning.dry_run_failed", error=answered["error"])
        return Found.from_json(answered["found"])

    def close(self) -> None:
        """End the child, in whatever it does; whoever asks it now or later gets UserError at once."""
        self._closed = True
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def _start(self) -> subprocess.Popen[str]:
        if self._closed:
            raise UserError("jobs.closed")
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [*COMMAND, str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="utf-8",
                cwd=_ROOT,
                env=worker_environment("", os.environ) | {"OMP_NUM_THREADS": "1"},
                start_new_session=True,
            )
        return self._process
