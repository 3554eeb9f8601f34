"""A warm parent for pages: it has imported Gradio and forks the app, `page_parent.py --socket FD --parent PID`.

It has imported what computes, too: before an app begins, the app's own warm parent is forked from it, and is ready
when it is asked for. Only the first one; whatever becomes of it, the next is a new process as everywhere. The app
itself then forgets the modules that no page imports.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import socket
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from i2v.families import SPECS
from i2v.families.spec import FROM_AN_IMAGE, InputSlot
from i2v.jobs.process import warm as warm_parent
from i2v.jobs.process.start import Forked, worker_environment
from i2v.worker import warm
from i2v.worker.life import end_with_parent

PAGE = ("i2v.cli", "i2v.ui.serve")
TASKS_OF = "TEST_TASKS_OF"
"""The environment may say by this what a family can do in that app: `i2vgen_xl=t2v,v2v`."""

run = warm._run
of_the_page: set[str] = set()
"""The modules that are imported with a page."""


def run_with_warm_parent(program: str, *arguments: str) -> None:
    """As `warm._run`, an app with its warm parent. A person's app outlives its terminal; this one ends with its tests,
    also where those are killed."""
    if Path(program).name == "app.py":
        end_with_parent(os.getppid())
        if said := os.environ.get(TASKS_OF):
            give_tasks(*said.split("="))
        fork_warm_parent()
        for name in set(sys.modules) - of_the_page:
            del sys.modules[name]
    run(program, *arguments)


def give_tasks(family: str, tasks: str) -> None:
    """Before any process of the app begins, so that all of them know."""
    slots = {"t2v": (), **FROM_AN_IMAGE, "v2v": (InputSlot("video", None),)}
    SPECS[family] = replace(SPECS[family], inputs={task: slots[task] for task in tasks.split(",")})


def fork_warm_parent() -> None:
    app = os.getpid()
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        be_warm_parent(theirs, app)
    theirs.close()
    begin, given = warm_parent.WarmParent._begin, [Forked(pid)]

    def begin_with_what_is_there(self: warm_parent.WarmParent) -> None:
        if not given:
            begin(self)
            return
        ctypes.CDLL(None).prctl(warm_parent._PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._process, self._asking = given.pop(), ours

    warm_parent.WarmParent._begin = begin_with_what_is_there


def be_warm_parent(asking: socket.socket, app: int) -> None:
    """What `python -m i2v.worker.warm` is once it has imported everything."""
    warm._run = run
    os.setsid()
    end_with_parent(app)
    with open(os.devnull, "r+b") as nothing:
        for file in (0, 1, 2):
            os.dup2(nothing.fileno(), file)
    environment = worker_environment("", os.environ)
    os.environ.clear()
    os.environ.update(environment)
    with asking:
        forked = warm._serve(asking)
    if forked is not None:
        warm._become(*forked)
    sys.exit()


if __name__ == "__main__":
    for name in PAGE:
        importlib.import_module(name)
    of_the_page = set(sys.modules)
    warm._run = run_with_warm_parent
    sys.exit(warm.main(sys.argv[1:]))
