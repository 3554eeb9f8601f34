"""The planning child as its parent holds it: started with the first question, warm from then on, asked one thing after
the other. Whose turn it is: the lane's first, then by age; a question that nobody waits for any more is not asked."""

from __future__ import annotations

import base64
import itertools
import json
import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from i2v.jobs.process.start import Process, Start, pipe_to_child, start_cold, worker_environment
from i2v.messages import Message, UserError
from i2v.plan import Plan
from i2v.planning.known import PHASES, Found
from i2v.request import GenerationRequest

COMMAND = (sys.executable, "-m", "i2v.worker.dry")
PAGES_KEPT = 1000  # of pages that were closed long ago


class Superseded(Exception):
    """Whoever asked has asked something else meanwhile."""


@dataclass(frozen=True)
class Asker:
    """Who asks. `urgent`: a job whose turn has come. `still` says whether the answer is wanted."""

    urgent: bool = False
    still: Callable[[], bool] = lambda: True


ANYBODY, LANE = Asker(), Asker(urgent=True)


class Pages:
    """Open pages, of each of which only the newest question counts. Any thread may call."""

    def __init__(self) -> None:
        self._newest: OrderedDict[str, int] = OrderedDict()
        self._numbers = itertools.count()
        self._changing = threading.Lock()

    def asks(self, page: str) -> Asker:
        """Page `page` asks something new."""
        with self._changing:
            number = self._newest[page] = next(self._numbers)
            self._newest.move_to_end(page)
            if len(self._newest) > PAGES_KEPT:
                self._newest.popitem(last=False)
        return Asker(still=lambda: self._newest.get(page, number) == number)


@dataclass(frozen=True, eq=False)
class _Question:
    line: str | None  # None: nothing but that the child be there
    asker: Asker
    light: bool = False  # answered in less than a tenth of a second
    answer: Future[dict[str, Any]] = field(default_factory=Future)


class DryChild:
    """May be asked from any thread; answers come one after the other. `close` it when done."""

    def __init__(self, start: Start = start_cold) -> None:
        self._start = start
        self._process: Process | None = None
        self._waiting: list[_Question] = []
        self._changed = threading.Condition()
        self._closed = False
        # The kernel ends the child when the thread that has started it ends: it must be one that stays.
        self._thread = threading.Thread(target=self._work, name="planning-child", daemon=True)

    def warm_up(self) -> None:
        """Start it, so that the first question need not wait for that. Returns at once."""
        with suppress(UserError):  # closed meanwhile
            self._put(_Question(None, ANYBODY))

    def run(
        self,
        family: str,
        folder: Path | None,
        request: GenerationRequest,
        plan: Plan,
        asker: Asker = ANYBODY,
        phases: Sequence[str] = PHASES,
    ) -> Found:
        """What a dry run of these phases of a job finds. Raises UserError where the model's configuration makes none
        possible, and Superseded where `asker` wants it no more before its turn comes."""
        values = {
            "family": family,
            "folder": None if folder is None else str(folder),
            "request": request.to_json(),
            "plan": plan.to_json(),
            "phases": list(phases),
        }
        question = _Question(json.dumps(values) + "\n", asker)
        self._put(question)
        answered = question.answer.result()
        if "error" in answered:
            raise UserError("planning.dry_run_failed", error=answered["error"])
        return Found.from_json(answered["found"])

    def said(
        self, family: str, folder: Path, request: GenerationRequest, asker: Asker = ANYBODY
    ) -> tuple[Message, ...]:
        """What the model in `folder`, of a family that `tells`, says of the request's sentence. Raises UserError and
        Superseded as `run` does."""
        answered = self._told({"telling": family, "folder": str(folder), "request": request.to_json()}, asker)
        return tuple(Message.from_json(one) for one in answered["said"])

    def finds(
        self, family: str, folder: Path, request: GenerationRequest, photograph: bytes, asker: Asker = ANYBODY
    ) -> str | None:
        """Where in the photograph, a small image file, the model sees what the sentence asks for; None where it is not
        sure. Raises as `said` does."""
        values = {"telling": family, "folder": str(folder), "request": request.to_json()}
        return self._told({**values, "photograph": base64.b64encode(photograph).decode("ascii")}, asker)["region"]

    def _told(self, values: dict[str, Any], asker: Asker) -> dict[str, Any]:
        question = _Question(json.dumps(values) + "\n", asker, light=True)
        self._put(question)
        answered = question.answer.result()
        if "error" in answered:
            raise UserError("planning.not_told", error=answered["error"])
        return answered

    def close(self) -> None:
        """End the child, in whatever it does; whoever asks it now or later gets UserError at once."""
        with self._changed:
            self._closed = True
            for question in self._waiting:
                question.answer.set_exception(UserError("jobs.closed"))
            self._waiting.clear()
            if (process := self._process) is not None:  # its own thread may let go of it meanwhile
                process.kill()
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join()

    def _put(self, question: _Question) -> None:
        with self._changed:
            if self._closed:
                raise UserError("jobs.closed")
            if self._thread.ident is None:
                self._thread.start()
            for old in [old for old in self._waiting if not old.asker.still()]:
                self._waiting.remove(old)
                old.answer.set_exception(Superseded())
            self._waiting.append(question)
            self._changed.notify_all()

    # --- in its own thread ---

    def _work(self) -> None:
        while (question := self._next()) is not None:
            if not question.asker.still():
                question.answer.set_exception(Superseded())
                continue
            try:
                question.answer.set_result(self._ask(question.line))
            except Exception as error:  # the one who asked says what it is
                question.answer.set_exception(error)
        if self._process is not None:
            self._end()

    def _next(self) -> _Question | None:
        """The question whose turn it is, once there is one; None when there will be none."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if self._closed:
                return None
            urgent = (one for one in self._waiting if one.asker.urgent)
            light = (one for one in self._waiting if one.light)
            question = next(urgent, None) or next(light, None) or self._waiting[0]
            self._waiting.remove(question)
            return question

    def _ask(self, line: str | None) -> dict[str, Any]:
        if self._process is None or self._process.poll() is not None:
            self._begin()
        if line is None:
            return {}
        try:
            self._questions.write(line)
            self._questions.flush()
            answer = self._answers.readline()
        except OSError:
            answer = ""
        if not answer:
            raise UserError("planning.child_ended", code=self._end())
        return json.loads(answer)

    def _begin(self) -> None:
        """Start the child. Raises UserError where that cannot be."""
        if self._process is not None:
            self._end()
        questions, self._questions = pipe_to_child("w")
        answers, self._answers = pipe_to_child("r")
        nothing = os.open(os.devnull, os.O_WRONLY)
        try:
            process = self._start(
                [*COMMAND, str(os.getpid())],
                worker_environment("", os.environ) | {"OMP_NUM_THREADS": "1"},
                {0: questions, 1: answers, 2: nothing},
            )
        except OSError as error:
            self._questions.close()
            self._answers.close()
            raise UserError("planning.child_not_started", reason=str(error)) from error
        finally:
            for theirs in (questions, answers, nothing):
                os.close(theirs)
        with self._changed:
            self._process = process
            if self._closed:
                process.kill()

    def _end(self) -> int:
        """Take leave of the child; its exit code."""
        process, self._process = self._process, None
        process.kill()
        for ours in (self._questions, self._answers):
            with suppress(OSError):
                ours.close()
        return process.wait()
