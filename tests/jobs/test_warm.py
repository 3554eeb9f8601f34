"""The warm parent: what it forks is as good as a new process, and whatever becomes of it, jobs go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from i2v.events import Noted, StateChanged
from i2v.jobs.process.start import Forked, Process, end_session, pipe_to_child, start_cold
from i2v.jobs.process.warm import WarmParent
from i2v.jobs.service import JobService
from tests.jobs_support import SCRIPTED, fake_model, settings_in, small_picture, values, wait_until
from tests.warm_support import light, shared

pytestmark = [pytest.mark.drives, pytest.mark.skipif(sys.platform != "linux", reason="only Linux has subreapers")]

TELLING = """
import json, os, sys
told = {"argv": sys.argv, "environment": dict(os.environ), "cwd": os.getcwd(), "session": os.getsid(0),
        "input": sys.stdin.read(), "parent": os.getppid(), "files": sorted(map(int, os.listdir("/proc/self/fd"))),
        "modules": sorted(sys.modules)}
print("said", flush=True)
print("and complained", file=sys.stderr)
os.write(int(sys.argv[1]), json.dumps(told).encode())
"""


@pytest.fixture
def warm() -> Iterator[WarmParent]:
    with closing(light()) as warm:
        warm.warm_up().result(60)
        yield warm


def script(folder: Path, text: str) -> tuple[str, str]:
    path = folder / "script.py"
    path.write_text(text)
    return sys.executable, str(path)


def started(parent: WarmParent, command: tuple[str, ...], **environ: str) -> tuple[Process, dict]:
    """A process that tells of itself (see TELLING) and has ended well."""
    questions, ours = pipe_to_child("w")
    said, hears = pipe_to_child("rb")
    told, reads = pipe_to_child("rb")
    process = parent.start(
        [*command, str(told)], {**os.environ, **environ}, {0: questions, 1: said, 2: said, told: told}
    )
    for theirs in (questions, said, told):
        os.close(theirs)
    with ours, hears, reads:
        ours.write("to be read")
        ours.close()
        found = json.loads(reads.read())  # first: it is more than a pipe holds
        assert hears.read() == b"said\nand complained\n"
    assert process.wait(60) == 0
    return process, {**found, "told_at": told}


def test_it_forks_where_nobody_has_said_how_many_threads_to_use(tmp_path: Path, monkeypatch) -> None:
    """As on a person's computer: the suite's own limit hides what libraries start by themselves."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with closing(WarmParent()) as warm:
        warm.warm_up().result(120)
        process, _ = started(warm, script(tmp_path, TELLING))
    assert isinstance(process, Forked)


def test_what_it_forks_is_as_good_as_a_new_process(warm: WarmParent, tmp_path: Path) -> None:
    process, found = started(warm, script(tmp_path, TELLING), CUDA_VISIBLE_DEVICES="GPU-1", OMP_NUM_THREADS="7")
    assert isinstance(process, Forked)
    assert found["argv"][1:] == [str(found["told_at"])]
    assert found["environment"] == {**os.environ, "CUDA_VISIBLE_DEVICES": "GPU-1", "OMP_NUM_THREADS": "7"}
    assert found["input"] == "to be read"
    assert found["session"] == process.pid != os.getsid(0)
    assert found["parent"] == os.getpid()
    assert Path(found["cwd"]) == Path(__file__).parents[2]
    # The standard ones, the one handed over, and that of the listing itself.
    assert {0, 1, 2, found["told_at"]} <= set(found["files"])
    assert len(found["files"]) == 5


def test_how_it_ended_is_told(warm: WarmParent, tmp_path: Path) -> None:
    with open(os.devnull, "r+b") as nothing:
        files = {0: nothing.fileno(), 1: nothing.fileno(), 2: nothing.fileno()}
        ways = {"raise SystemExit(7)": 7, "raise ValueError": 1, "import os; os.kill(os.getpid(), 11)": -signal.SIGSEGV}
        for text, code in ways.items():
            assert warm.start(script(tmp_path, text), os.environ, files).wait(60) == code
        sleeping = warm.start(script(tmp_path, "import time; time.sleep(600)"), os.environ, files)
        assert sleeping.poll() is None
        sleeping.kill()
        assert sleeping.wait(60) == -signal.SIGKILL
        sleeping.kill()  # nobody else's, whoever has its number now
        assert sleeping.poll() == -signal.SIGKILL


def test_no_corpse_is_left_of_what_it_had_started(warm: WarmParent, tmp_path: Path) -> None:
    text = "import subprocess, sys; print(subprocess.Popen(['sleep', '600']).pid, flush=True)"
    said, hears = pipe_to_child("r")
    with open(os.devnull, "r+b") as nothing, hears:
        files = {0: nothing.fileno(), 1: said, 2: nothing.fileno()}
        process = warm.start(script(tmp_path, text), os.environ, files)
        os.close(said)
        left = int(hears.readline())
        process.wait(60)
        assert psutil.Process(left).ppid() == os.getpid()
        end_session(process)
        assert not psutil.pid_exists(left)


def test_it_has_everything_imported_and_no_page(tmp_path: Path) -> None:
    process, found = started(shared(), script(tmp_path, TELLING))
    assert isinstance(process, Forked)
    tops = {name.partition(".")[0] for name in found["modules"]}
    assert {"torch", "diffusers", "transformers"} <= tops
    assert {"i2v.engine.run", "i2v.dryrun.runner", "i2v.families.nano.model"} <= set(found["modules"])
    assert not {"gradio", "uvicorn", "fastapi", "pytest"} & tops
    assert not [name for name in found["modules"] if name.startswith(("i2v.ui", "i2v.cli", "i2v.jobs.service"))]


def test_the_imports_never_ask_for_a_card(tmp_path: Path) -> None:
    """A process that has asked CUDA for its cards, and all that is forked from it, can use none."""
    text = """
import torch
asked = []
for name in ("is_available", "device_count", "_lazy_init", "current_device", "get_device_properties", "mem_get_info"):
    setattr(torch.cuda, name, lambda *_, name=name: asked.append(name) or 0)
for name in [name for name in dir(torch._C) if name.startswith("_cuda_get") or name == "_cuda_init"]:
    setattr(torch._C, name, lambda *_, name=name: asked.append(name) or 0)
from i2v.worker.warm import import_everything
assert import_everything() is None
assert asked == [], asked
"""
    with open(os.devnull, "r+b") as nothing:
        command = (sys.executable, "-c", text)
        assert start_cold(command, os.environ, dict.fromkeys((0, 1), nothing.fileno()) | {2: 2}).wait(300) == 0


@pytest.mark.parametrize("harm", [signal.SIGKILL, signal.SIGSTOP])
def test_a_new_one_takes_the_place_of_one_that_is(
    warm: WarmParent, tmp_path: Path, harm: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    """One that was stopped is seen to be so, and not waited for until it has said nothing for long."""
    before = warm.pid
    os.kill(before, harm)
    process, _ = started(warm, script(tmp_path, TELLING))
    assert isinstance(process, Forked)
    assert warm.pid not in (None, before)
    assert ("it was stopped" in caplog.text) == (harm == signal.SIGSTOP)
    wait_until(lambda: not psutil.pid_exists(before))


@pytest.mark.parametrize("how", ["threads", "installation", "full", "ends"])
def test_where_it_can_not_fork_a_new_process_is_started(tmp_path: Path, how: str) -> None:
    with closing(light(how)) as parent:
        for _ in range(4):
            process, _ = started(parent, script(tmp_path, TELLING))
            assert not isinstance(process, Forked)
        assert parent.pid is None  # given up, and no more imports with each job


def test_closing_waits_for_no_imports(tmp_path: Path) -> None:
    parent, found = light("slow"), []
    asking = threading.Thread(target=lambda: found.append(started(parent, script(tmp_path, TELLING))[0]))
    asking.start()
    wait_until(lambda: parent.pid)
    pid = parent.pid
    parent.close()
    asking.join(60)
    assert len(found) == 1
    assert not isinstance(found[0], Forked)
    wait_until(lambda: not psutil.pid_exists(pid))
    assert not isinstance(started(parent, script(tmp_path, TELLING))[0], Forked)
    parent.close()


# --- jobs ---


@pytest.mark.parametrize("harm", ["killed", "stopped", "out of memory"])
def test_jobs_go_on_whatever_becomes_of_the_warm_parent(tmp_path: Path, harm: str) -> None:
    """Killed as for want of memory, stopped, or without memory for another fork: while a job runs, before it is taken
    up again, before the next one, and with the worker."""
    fake_model(tmp_path)
    picture = small_picture(tmp_path)

    def hurt() -> None:
        if harm != "out of memory" and parent.pid is not None:
            os.kill(parent.pid, signal.SIGKILL if harm == "killed" else signal.SIGSTOP)

    with (
        closing(light("full" if harm == "out of memory" else "well")) as parent,
        JobService(*settings_in(tmp_path), worker_command=SCRIPTED, start=parent.start) as service,
    ):
        first = service.submit(values(steps=40), picture)
        wait_until(lambda: service.status(first).step >= 2)
        worker = psutil.Process(service.status(first).worker_pid)
        hurt()
        step = service.status(first).step
        wait_until(lambda: service.status(first).step > step + 1)
        assert worker.is_running()  # it is nothing to a worker
        assert service.pause(first)
        wait_until(lambda: service.status(first).state in ("paused", "done", "cancelled"))
        hurt()
        second = service.submit(values("signal 9"), picture)
        found = [event for _, event in service.attach(second)]
        told = [event.message.id for event in found if isinstance(event, Noted)]
        assert "jobs.worker_killed" in told  # its exit code was read
        hurt()
        third = service.submit(values(), picture)
        assert [event for _, event in service.attach(third)][-1] == StateChanged("done")


APP = """
import os, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.jobs_support import SCRIPTED, settings_in, small_picture, values, wait_until
from tests.warm_support import light
from i2v.jobs.service import JobService
folder, warm = Path({folder!r}), light()
service = JobService(*settings_in(folder), worker_command=SCRIPTED, start=warm.start)
job_id = service.submit(values("hold_lock", steps=400), small_picture(folder))
wait_until(lambda: service.status(job_id).step >= 2)
print(os.getpid(), warm.pid, service.status(job_id).worker_pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("stopped", [False, True], ids=["as it is", "with a warm parent that is stopped"])
def test_everything_ends_with_the_app(tmp_path: Path, stopped: bool) -> None:
    """Also a worker in a native call that lets nothing else run, where no thread of its own could act."""
    fake_model(tmp_path)
    code = APP.format(root=str(Path(__file__).parents[2]), folder=str(tmp_path))
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as app:
        pid, warm, worker = map(psutil.Process, map(int, app.stdout.readline().split()))
        assert (warm.ppid(), worker.ppid()) == (pid.pid, pid.pid)
        if stopped:
            warm.suspend()
        app.kill()
    wait_until(lambda: not [one for one in (warm, worker) if one.is_running() and one.status() != "zombie"])
