"""A worker for tests: the real process with a scripted engine, or with the real one watched.

The first argument names the engine: `scripted` does what the prompt says, `watched` runs the real engine and leaves
the worker's module names beside the video. `--without-deathsig` takes away the kernel's help, so that the end of
stdin alone must end the process.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from i2v.engine.cancel import GenerationCancelled
from i2v.events import Done, MemorySampled, PhaseStarted, StateChanged, StepFinished
from i2v.messages import UserError
from i2v.worker import main as worker_main

STEP_SECONDS = 0.05


class ScriptedEngine:
    """Emits what an engine emits. The prompt's first word says what happens at step 2."""

    def __init__(self) -> None:
        self.weights = b""

    def run(self, request, plan, *, entry, job_folder, emit, cancelled, orders=None):
        word, _, argument = request.prompt.partition(" ")
        self.weights = self.weights or os.urandom(1) * (200 * 2**20)
        emit(PhaseStarted("denoise"))
        for step in range(1, request.num_inference_steps + 1):
            if cancelled():
                raise GenerationCancelled(step - 1)
            time.sleep(STEP_SECONDS)
            emit(StepFinished("denoise", step, request.num_inference_steps, 0.05, 0.05, 0.5))
            emit(MemorySampled("denoise", step, 3 * 2**30, 4 * 2**30, 5 * 2**30, 6 * 2**30, 2**30, "simulated"))
            if step == 2:
                (job_folder / ".video.mp4.part").write_bytes(b"half")
                self.act(word, argument, job_folder)
        emit(StateChanged("decoding"))
        emit(PhaseStarted("decode"))
        for frame in range(1, request.num_frames + 1):
            emit(StepFinished("decode", frame, request.num_frames, 0.01, 0.01, 0.0))
        (job_folder / ".video.mp4.part").write_bytes(b"video")
        path = (job_folder / ".video.mp4.part").rename(job_folder / "video.mp4")
        emit(Done(path.name, 1.0, request.num_frames))
        emit(StateChanged("done"))
        if word == "fault_after_the_end":
            raise ValueError("too late")
        if word == "die_after_the_end":
            os.kill(os.getpid(), signal.SIGKILL)
        return path

    def act(self, word: str, argument: str, job_folder: Path) -> None:
        match word:
            case "signal":
                os.kill(os.getpid(), int(argument))
            case "exit":
                os._exit(int(argument))
            case "user_error":
                raise UserError("engine.not_finite", precision=argument)
            case "out_of_memory":
                raise type("OutOfMemoryError", (RuntimeError,), {})(f"CUDA out of memory. {argument}\nadvice")
            case "card_lost":  # once; the process that comes next has its card again
                if not (lost := job_folder / "lost").is_file():
                    lost.write_text(str(os.getpid()))
                    raise RuntimeError("CUDA error: unspecified launch failure\nadvice")
            case "card_always_lost":
                raise RuntimeError("CUDA error: unspecified launch failure")
            case "os_error":
                raise OSError(int(argument), os.strerror(int(argument)))
            case "fault":
                raise ValueError("no such thing")
            case "garble":
                os.write(int(sys.argv[sys.argv.index("--reports") + 1]), b"hello\n")
            case "chatter":
                print('{"type": "idle", "job_id": "x"}', flush=True)
                subprocess.run(["sh", "-c", "echo from a child; cat"], check=True)
            case "leave_a_child":
                child = subprocess.Popen(["sleep", "60"])
                (job_folder / "child.pid").write_text(str(child.pid))
                os.kill(os.getpid(), signal.SIGKILL)
            case "sleep":
                time.sleep(60)
            case "hold_lock":  # a native call that never lets go of the interpreter
                ctypes.PyDLL(None).sleep(600)  # longer than any test waits for its end
            case "multiply":
                import torch

                matrix = torch.rand(4000, 4000)
                for _ in range(1000):
                    matrix = matrix @ matrix

    def release(self) -> None:
        self.weights = b""


def watched_engine():
    """The real engine; after each video the names of all modules loaded stand in modules.json."""
    engine = worker_main.real_engine()
    run = engine.run

    def run_and_list(request, plan, *, job_folder, emit, **rest):
        def emit_and_list(event):
            if isinstance(event, Done):
                (job_folder / "modules.json").write_text(json.dumps(sorted(sys.modules)))
            emit(event)

        return run(request, plan, job_folder=job_folder, emit=emit_and_list, **rest)

    engine.run = run_and_list
    return engine


if __name__ == "__main__":
    kind, *arguments = sys.argv[1:]
    if "--without-deathsig" in arguments:
        arguments.remove("--without-deathsig")
        worker_main.end_with_parent = lambda parent: None
    if kind == "deaf":  # one that never answers and ends at once
        sys.exit(7)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(worker_main.main(arguments, ScriptedEngine if kind == "scripted" else watched_engine))
