"""The worker as a process: it ends with its parent, keeps its pipes clean, and each side loads only what is its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from i2v.events import Failed, PhaseStarted, PreviewReady, StateChanged
from i2v.jobs.service import JobService
from i2v.video.metadata import probe_video, read_metadata
from i2v.video.rescue import growing_path, partial_path, whole_fragments
from tests.jobs_support import (
    MODEL,
    SCRIPT,
    SCRIPTED,
    WATCHED,
    fake_model,
    settings_in,
    small_picture,
    values,
    wait_until,
)
from tests.warm_support import shared, small_checkpoint

SECONDS_TO_BE_GONE = 60.0  # it takes less than two on a quiet machine: bench/faults.py

PARENT = """
import json, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.jobs_support import fake_model, settings_in, small_picture, values, wait_until
from i2v.jobs.service import JobService
jobs = []
for prompt in {prompts!r}:
    folder = Path({folder!r}) / prompt
    fake_model(folder)
    service = JobService(*settings_in(folder), worker_command={command!r})
    jobs.append((service, service.submit(values(prompt, steps=400), small_picture(folder))))
for service, job_id in jobs:
    wait_until(lambda: service.status(job_id).step >= 2)
print(json.dumps([service.status(job_id).worker_pid for service, job_id in jobs]), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def orphans(tmp_path: Path) -> Iterator[Callable[..., list[psutil.Process]]]:
    """Start a process with a service and a job for each prompt, kill that process, return the workers it leaves."""
    started: list[subprocess.Popen[str]] = []

    def start(prompts: Sequence[str], *flags: str) -> list[psutil.Process]:
        code = PARENT.format(
            root=str(SCRIPT.parents[1]), folder=str(tmp_path), command=(*SCRIPTED, *flags), prompts=tuple(prompts)
        )
        parent = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(parent)
        assert parent.stdout is not None
        workers = [psutil.Process(pid) for pid in json.loads(parent.stdout.readline())]
        assert all(worker.is_running() for worker in workers)
        time.sleep(0.2)  # so that each is in the middle of what its prompt says
        parent.kill()
        parent.wait()
        return workers

    yield start
    for parent in started:
        parent.kill()
        parent.wait()


def gone(worker: psutil.Process) -> None:
    """A worker has ended, or is a corpse that nobody has collected, before the time is up."""
    deadline = time.monotonic() + SECONDS_TO_BE_GONE
    while worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            worker.kill()
            pytest.fail("the worker outlived its parent")
        time.sleep(0.02)


@pytest.mark.parametrize("flags", [(), ("--without-deathsig",)], ids=["both", "stdin alone"])
def test_the_workers_end_with_their_parent(orphans, flags: tuple[str, ...]) -> None:
    # Only Linux ends one that is in a native call that lets nothing else run.
    natively = ("hold_lock",) if sys.platform == "linux" and not flags else ()
    for worker in orphans(("go", "sleep", "multiply", *natively), *flags):
        gone(worker)


def test_it_does_not_start_for_a_parent_that_is_gone() -> None:
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "i2v.worker", "--reports", str(writing), "--parent", "1"]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=(writing,), cwd=SCRIPT.parents[1])
    os.close(writing)
    assert worker.wait(120) == 0
    assert os.read(reading, 1) == b""
    os.close(reading)


def test_a_command_it_cannot_read_ends_it() -> None:
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "i2v.worker", "--reports", str(writing), "--parent", str(os.getpid())]
    worker = subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=(writing,), cwd=SCRIPT.parents[1]
    )
    os.close(writing)
    _, said = worker.communicate(b"do something\n", timeout=120)
    assert worker.returncode == 64
    assert b"do something" in said
    os.close(reading)


def test_prints_go_to_the_log_and_nobody_eats_commands(tmp_path: Path) -> None:
    fake_model(tmp_path)
    with JobService(*settings_in(tmp_path), worker_command=SCRIPTED) as service:
        for _ in range(2):
            job_id = service.submit(values("chatter"), small_picture(tmp_path))
            assert [event for _, event in service.attach(job_id)][-1] == StateChanged("done")
    log = (tmp_path / "logs" / "worker.log").read_text()
    assert log.count('{"type": "idle", "job_id": "x"}') == 2
    assert log.count("from a child") == 2


def test_ctrl_c_in_the_terminal_is_not_for_the_worker(tmp_path: Path) -> None:
    fake_model(tmp_path)
    with JobService(*settings_in(tmp_path), worker_command=SCRIPTED) as service:
        job_id = service.submit(values(steps=20), small_picture(tmp_path))
        wait_until(lambda: service.status(job_id).step > 0)
        pid = service.status(job_id).worker_pid or 0
        assert os.getpgid(pid) != os.getpgid(0)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[JobService, Path]]:
    """A service with the real engine and an untrained I2VGen-XL, for all tests of this file."""
    folder = tmp_path_factory.mktemp("real")
    small_checkpoint(folder / "models" / MODEL)
    with JobService(*settings_in(folder), worker_command=WATCHED, start=shared().start) as service:
        yield service, folder


def test_a_real_job_makes_a_real_video(real: tuple[JobService, Path]) -> None:
    service, folder = real
    job_id = service.submit(values("雨の庭 🌧", frames=3, fps=7), small_picture(folder))
    found = [event for _, event in service.attach(job_id)]
    assert [event.state for event in found if isinstance(event, StateChanged)] == [
        "queued",
        "running",
        "decoding",
        "done",
    ]
    assert {event.phase for event in found if isinstance(event, PhaseStarted)} == {
        "load",
        "encode",
        "denoise",
        "decode",
    }
    video = probe_video(service.result(job_id))
    assert (video.width, video.height, video.frames, video.fps) == (64, 64, 3, 7)
    request = service.status(job_id).request
    assert read_metadata(service.result(job_id))["request"] == json.loads(json.dumps(request.to_json()))
    preview = next(event for event in found if isinstance(event, PreviewReady))
    assert {path.name for path in service.status(job_id).folder.iterdir()} == {
        "request.json",
        "plan.json",
        "job.json",
        "events.jsonl",
        "memory.csv",
        "input.png",
        "latents.safetensors",
        "video.mp4",
        "modules.json",
        "steadiness.json",
        "steadiness.csv",
        preview.path,
    }


def test_the_worker_has_no_page_and_the_page_no_torch(real: tuple[JobService, Path]) -> None:
    service, folder = real
    job_id = service.submit(values(), small_picture(folder))
    list(service.attach(job_id))
    loaded = json.loads((service.status(job_id).folder / "modules.json").read_text())
    tops = {name.partition(".")[0] for name in loaded}
    assert {"torch", "diffusers", "transformers"} <= tops
    assert not {"gradio", "uvicorn", "fastapi"} & tops
    assert not [name for name in loaded if name.startswith(("i2v.ui", "i2v.cli", "i2v.jobs.service"))]


def test_a_process_that_ran_a_real_job_has_no_torch_and_a_worker_of_its_own_no_page(tmp_path: Path) -> None:
    """Where no process can be forked from a warm one, as on the command line."""
    code = f"""
import json, sys
from pathlib import Path
sys.path.insert(0, {str(SCRIPT.parents[1])!r})
from tests.jobs_support import WATCHED, settings_in, small_picture, values
from i2v.jobs.service import JobService
folder = Path({str(tmp_path)!r})
with JobService(*settings_in(folder), worker_command=WATCHED) as service:
    job_id = service.submit(values(model="nano", steps=1), small_picture(folder))
    list(service.attach(job_id))
    heavy = {{"torch", "diffusers", "transformers"}} & set(sys.modules)
    loaded = json.loads((service.status(job_id).folder / "modules.json").read_text())
    page = {{"gradio", "uvicorn", "fastapi", "i2v.ui", "i2v.cli", "i2v.jobs.service"}} & set(loaded)
    print(service.status(job_id).state, sorted(heavy), sorted(page), "torch" in loaded)
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown == "done [] [] True\n"


def test_a_real_job_is_cancelled_and_the_next_one_runs(real: tuple[JobService, Path]) -> None:
    service, folder = real
    job_id = service.submit(values(steps=500), small_picture(folder))
    wait_until(lambda: service.status(job_id).step > 0)
    assert service.cancel(job_id)
    assert [event for _, event in service.attach(job_id)][-1] == StateChanged("cancelled")
    assert not (service.status(job_id).folder / "video.mp4").exists()
    again = service.submit(values(), small_picture(folder))
    assert [event for _, event in service.attach(again)][-1] == StateChanged("done")


def test_a_card_that_is_too_small_is_said_with_figures(real: tuple[JobService, Path], tmp_path: Path) -> None:
    """Smaller than any that is allowed: on those, this model's jobs heal."""
    _, folder = real
    warm = shared().start
    settings, probe = settings_in(tmp_path, cpu=None, simulate_gib=0.25, models_dir=str(folder / "models"))
    with JobService(replace(settings, simulate_gib=0.01), probe, worker_command=WATCHED, start=warm) as service:
        request = values(width=256, height=256, frames=16, chunk_frames=0, chunk_pixels=0, cfg="batch")
        job_id = service.submit(request, small_picture(tmp_path))
        found = [event for _, event in service.attach(job_id)]
        assert isinstance(found[-2], Failed)
        assert found[-2].message.id == "worker.out_of_memory"
        for figure in ("denoise", "256x256", "16 frames", "0.01 GiB"):
            assert figure in found[-2].message.render()
        small = service.submit(values(steps=1), small_picture(tmp_path))
        assert [event for _, event in service.attach(small)][-1] == StateChanged("done")


def test_killing_a_real_run_leaves_frames_that_play_and_no_half_file(real: tuple[JobService, Path]) -> None:
    service, folder = real
    job_id = service.submit(values(frames=24, steps=1), small_picture(folder))
    video = service.status(job_id).folder / "video.mp4"
    wait_until(lambda: whole_fragments(growing_path(video))[1] >= 5 or service.status(job_id).state == "done")
    os.kill(service.status(job_id).worker_pid or 0, signal.SIGKILL)
    list(service.attach(job_id))
    left = {path.name for path in service.status(job_id).folder.iterdir()}
    assert not [name for name in left if name.startswith(".")]
    # It may have come to its end just then.
    assert probe_video(video if "video.mp4" in left else partial_path(video)).frames >= 5
    assert "latents.safetensors" in left
