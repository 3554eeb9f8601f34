"""The warm parent: a process that has imported torch, diffusers and transformers once, and forks the processes that
compute. A fork takes a twentieth of a second where the imports take ten.

    python -m i2v.worker.warm --socket FD --parent PID

It is asked over the socket `FD` (`i2v.wire.fork`) by the app, and ends with it. The standard library's fork
server does not do, for four reasons: its children are its own, so that their exit codes and their lives end with it;
it imports the main module of the app, and so the page, into each of them; it has the app's environment, in which cards
can be seen; and it forks no matter whether it has threads.
"""

from __future__ import annotations

import argparse
import fcntl
import gc
import importlib
import os
import runpy
import socket
import sys
import time
from collections.abc import Sequence

from i2v.wire.fork import ForkRequest, answer, receive
from i2v.worker.life import end_with_parent

# Whatever a worker or a planning child imports sooner or later. The programs themselves are run, not imported.
IMPORTED = ("torch", "diffusers", "transformers", "i2v.engine.engine", "i2v.worker.main", "i2v.dryrun.runner")
OF_EACH_FAMILY = ("model", "skeleton")

_OUT_OF_THE_WAY = 100  # descriptors from here on are nobody's


def main(argv: Sequence[str]) -> int:
    """Import, then fork whenever asked. Returns when nobody asks any more; in a forked process, when what it was to
    run has ended."""
    parser = argparse.ArgumentParser(prog="i2v.worker.warm")
    parser.add_argument("--socket", type=int, required=True, help="descriptor of the socket that questions come from")
    parser.add_argument("--parent", type=int, required=True, help="process id of the app")
    options = parser.parse_args(argv)
    end_with_parent(options.parent)
    with socket.socket(fileno=options.socket) as asking:
        asking.set_inheritable(False)
        if problem := import_everything():
            answer(asking, error=problem)
            return 1
        answer(asking)
        forked = _serve(asking)
    if forked is not None:
        _become(*forked)
    return 0


def import_everything() -> str | None:
    """Import what forked processes need. Returns None when they can be forked now, and else why not."""
    from i2v.families import SPECS

    try:
        for name in IMPORTED:
            importlib.import_module(name)
        for family in SPECS:
            for part in OF_EACH_FAMILY:
                importlib.import_module(f"i2v.families.{family}.{part}")
    except Exception as error:  # an installation with a fault: the job that meets it says so in its own words
        return f"{type(error).__name__}: {error}"
    # The collector leaves alone what is there now. It would write into every page of it, and none would be shared.
    gc.collect()
    gc.freeze()
    threads = len(os.listdir("/proc/self/task"))
    return None if threads == 1 else f"{threads} threads run after the imports, and a fork would lose all but one"


def _serve(asking: socket.socket) -> tuple[ForkRequest, list[int]] | None:
    """Fork for each question. Returns None when nobody asks any more; in a forked process, what it is to be, and its
    files."""
    while (question := receive(asking)) is not None:
        asked, files = question
        ours, theirs = socket.socketpair()
        with ours, theirs:
            pid = _fork_away(ours, theirs)
            if pid == 0:
                return asked, files
            if pid is None:
                answer(asking, error="no further process could be forked")
            else:
                answer(asking, pid=pid)
                ours.send(b"!")  # the app knows of it, so it may begin
        for file in files:
            os.close(file)
    return None


def _fork_away(ours: socket.socket, theirs: socket.socket) -> int | None:
    """Fork a process that becomes a child of the app: the one between ends at once, and the app has asked the kernel
    for its orphans. Returns its id, None where none could be made; in the process itself 0, once the other end of
    `theirs` has let it begin."""
    between = os.fork()
    if between:
        theirs.close()
        told = ours.recv(32)
        os.waitpid(between, 0)
        return int(told) if told else None
    between = os.getpid()
    try:
        ours.close()
        if os.fork():
            os._exit(0)
        theirs.send(str(os.getpid()).encode())
        while os.getppid() == between:
            time.sleep(0.001)
        if not theirs.recv(1):  # nobody will ever know of this process
            os._exit(1)
    except OSError:
        os._exit(1)
    return 0


def _become(asked: ForkRequest, files: Sequence[int]) -> None:
    """Be the process that was asked for."""
    os.setsid()  # Ctrl-C in the terminal is for the app
    moved = [fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, _OUT_OF_THE_WAY) for file in files]
    for file in files:
        os.close(file)
    for file, number in zip(moved, asked.numbers, strict=True):
        os.dup2(file, number)
        os.close(file)
    threads_before = os.environ.get("OMP_NUM_THREADS")
    os.environ.clear()
    os.environ.update(asked.environment)
    threads, torch = asked.environment.get("OMP_NUM_THREADS"), sys.modules.get("torch")
    if torch is not None and threads not in (None, threads_before):
        torch.set_num_threads(int(threads.partition(",")[0]))  # it has read this long ago
    _run(*asked.command)


def _run(program: str, *arguments: str) -> None:
    """What `python program arguments` does."""
    if program == "-m":
        module, *arguments = arguments
        sys.argv = [module, *arguments]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        sys.argv = [program, *arguments]
        sys.path[0] = os.path.dirname(program)
        runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
