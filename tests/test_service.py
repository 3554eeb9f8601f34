"""The service: jobs in order, events for everybody, and no failure that outlives its job. The engine is scripted."""

from __future__ import annotations

import csv
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image
from safetensors.numpy import save_file

from i2v import events
from i2v.events import Cancelled, Done, Failed, Noted, Paused, Resumed, StateChanged, StepFinished
from i2v.families import SPECS
from i2v.families.lora_names import HUNYUAN_VIDEO
from i2v.families.spec import InputSlot
from i2v.hardware.nvml import Gpu
from i2v.hardware.probe import Probe
from i2v.jobs.asked.prepare import visible_card
from i2v.jobs.job.again import LATENTS
from i2v.jobs.list.rebuild import job_from_folder
from i2v.jobs.process.child import Worker, worker_environment
from i2v.jobs.process.death import RamSeen, explain_death
from i2v.jobs.service import JobService
from i2v.messages import UserError
from i2v.models.adapters import FOLDER, content_of
from i2v.plan import Plan
from i2v.request import Adapter, GenerationRequest, Input, first_image
from i2v.video.picture import load_picture
from i2v.wire.worker import EXIT_CARD_LOST
from tests.jobs_support import SCRIPTED, fake_model, settings_in, small_picture, values, wait_until
from tests.video_support import film

pytestmark = pytest.mark.drives

GIB = 2**30


@pytest.fixture
def service(tmp_path: Path) -> Iterator[JobService]:
    fake_model(tmp_path)
    with JobService(*settings_in(tmp_path), worker_command=SCRIPTED) as service:
        yield service


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return small_picture(tmp_path)


def run(service: JobService, picture: Path, prompt: str = "go", **more: object) -> list[events.Event]:
    """Submit a job and return its events once it has ended."""
    return [event for _, event in service.attach(service.submit(values(prompt, **more), picture))]


def states(found: list[events.Event]) -> list[str]:
    return [event.state for event in found if isinstance(event, StateChanged)]


def failure(found: list[events.Event]) -> str:
    """The message a failed job ends with, which is the last event but its state."""
    assert isinstance(found[-2], Failed), found
    assert found[-1] == StateChanged("failed")
    return found[-2].message.id


def started(service: JobService, job_id: str, step: int = 1) -> int:
    """The worker's process id once the job has made that many steps."""
    wait_until(lambda: service.status(job_id).step >= step)
    pid = service.status(job_id).worker_pid
    assert pid is not None
    return pid


# --- a job that goes well ---


def test_a_job_runs_to_its_video(service: JobService, picture: Path) -> None:
    job_id = service.submit(values(), picture)
    found = [event for _, event in service.attach(job_id)]
    assert states(found) == ["queued", "running", "decoding", "done"]
    assert isinstance(found[-2], Done)
    assert service.result(job_id).read_bytes() == b"video"
    status = service.status(job_id)
    told = status.to_json()
    assert told.pop("submitted") <= told.pop("started") <= told.pop("ended")
    assert told == {
        "id": job_id,
        "state": "done",
        "phase": "decode",
        "step": 2,
        "steps": 2,
        "seconds_left": 0.0,
        "error": None,
        "waits_for": None,
        "worker_pid": status.worker_pid,
        "position": 0,
        "starts_in": None,
        "resumed_from_step": None,
        "healed": [],
        "parent": None,
        "task": "generate",
        "prompt": "go",
        "model": "small",
    }
    assert status.worker_pid != os.getpid()


def test_the_job_folder_tells_the_whole_story(service: JobService, picture: Path) -> None:
    job_id = service.submit(values(negative="", seed=7), picture)
    found = list(service.attach(job_id))
    folder = service.status(job_id).folder
    assert folder.parent.name == f"{job_id[:4]}-{job_id[4:6]}-{job_id[6:8]}"
    assert folder.name == job_id

    lines = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert [(line.pop("seq"), events.from_json(line)) for line in lines] == found
    assert all(line["time"] > 0 for line in lines)

    rows = list(csv.DictReader((folder / "memory.csv").open()))
    assert [row["step"] for row in rows] == ["1", "2", "3", "4"]
    assert {row["allocated_bytes"] for row in rows} == {str(3 * GIB)}
    assert rows[0]["source"] == "simulated"

    request = GenerationRequest.from_json(json.loads((folder / "request.json").read_text()))
    assert (request.seed, request.image_path) == (7, "input.png")
    assert Plan.from_json(json.loads((folder / "plan.json").read_text())) == service.status(job_id).plan
    assert [path.name for path in folder.parent.iterdir()] == [job_id]


def test_the_stored_picture_is_upright(service: JobService, picture: Path) -> None:
    job_id = service.submit(values(), picture)
    with Image.open(service.status(job_id).folder / "input.png") as stored:
        assert stored.size == (64, 96)
        assert stored.mode == "RGB"


def test_the_worker_stays_warm(service: JobService, picture: Path) -> None:
    run(service, picture)
    run(service, picture)
    pids = {status.worker_pid for status in service.jobs()}
    assert len(pids) == 1
    assert pids != {None}


def test_nothing_is_started_before_the_first_job(tmp_path: Path) -> None:
    before = psutil.Process().children()
    with JobService(*settings_in(tmp_path), worker_command=SCRIPTED):
        assert [child for child in psutil.Process().children() if child not in before] == []


def test_warnings_come_with_the_job(service: JobService, picture: Path) -> None:
    found = run(service, picture, steps=3)
    assert "request.hint_steps" in [event.message.id for event in found if isinstance(event, Noted)]


# --- followers ---


def test_any_number_of_followers_see_the_same(service: JobService, picture: Path) -> None:
    job_id = service.submit(values(), picture)
    seen: list[list[tuple[int, events.Event]]] = []
    threads = [threading.Thread(target=lambda: seen.append(list(service.attach(job_id)))) for _ in range(8)]
    for thread in threads:
        thread.start()
    next(service.attach(job_id))  # and one that goes away at once
    for thread in threads:
        thread.join(120)
    late = list(service.attach(job_id))
    assert seen == [late] * 8
    assert [number for number, _ in late] == list(range(len(late)))
    assert list(service.attach(job_id, after=late[-3][0])) == late[-2:]
    assert list(service.attach(job_id, after=1000)) == []


def test_an_unknown_job_is_said_at_once(service: JobService) -> None:
    for ask in (service.attach, service.status, service.cancel, service.result):
        for job_id in ("20260101-000000-abcdef", "../../etc/passwd", "", None, ["x"]):
            with pytest.raises(UserError) as caught:
                ask(job_id)
            assert caught.value.message.id == "jobs.unknown"


# --- the queue ---


def test_jobs_run_one_after_the_other_in_order(service: JobService, picture: Path) -> None:
    ids = [service.submit(values(), picture) for _ in range(3)]
    started(service, ids[0])
    assert [service.status(job_id).position for job_id in ids] == [0, 1, 2]
    for job_id in ids:
        list(service.attach(job_id))
    steps = []
    for status in service.jobs():
        lines = [json.loads(line) for line in (status.folder / "events.jsonl").read_text().splitlines()]
        steps += [line["time"] for line in lines if line["type"] == "step_finished"]
    assert len(steps) == 3 * (4 + 2)  # and frames
    assert steps == sorted(steps)  # the second begins when the first is over
    assert [status.id for status in service.jobs()] == ids
    assert {status.state for status in service.jobs()} == {"done"}


def test_the_queue_has_an_end(tmp_path: Path, picture: Path) -> None:
    fake_model(tmp_path)
    settings, probe = settings_in(tmp_path, max_queue=2)
    with JobService(settings, probe, worker_command=SCRIPTED) as service:
        started(service, service.submit(values("sleep"), picture))
        ids = [service.submit(values(), picture) for _ in range(2)]
        with pytest.raises(UserError) as caught:
            service.submit(values(), picture)
        assert caught.value.message.id == "jobs.queue_full"
        assert len(list(settings.outputs_dir.glob("2*/*"))) == 3
        service.cancel(ids[0])
        service.submit(values(), picture)


def test_the_queue_may_fill_while_a_picture_is_read(
    tmp_path: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_model(tmp_path)
    settings, probe = settings_in(tmp_path, max_queue=1)
    with JobService(settings, probe, worker_command=SCRIPTED) as service:
        started(service, service.submit(values("sleep"), picture))

        def read_slowly(path: Path, **limits: float) -> Image.Image:
            patch.undo()
            service.submit(values(), picture)
            return load_picture(path, **limits)

        with monkeypatch.context() as patch:
            patch.setattr("i2v.jobs.intake.load_picture", read_slowly)
            with pytest.raises(UserError) as caught:
                service.submit(values(), picture)
        assert caught.value.message.id == "jobs.queue_full"
        assert len(service.jobs()) == len(list(settings.outputs_dir.glob("2*/*"))) == 2


# --- cancelling ---


def test_a_waiting_job_is_cancelled_without_starting(service: JobService, picture: Path) -> None:
    first = service.submit(values("go", steps=40), picture)
    second = service.submit(values(), picture)
    assert service.cancel(second)
    assert [event for _, event in service.attach(second)][-2:] == [Cancelled(0), StateChanged("cancelled")]
    assert service.status(second).worker_pid is None
    assert service.cancel(first)


def test_a_running_job_is_cancelled_within_a_step_and_gives_its_memory_back(service: JobService, picture: Path) -> None:
    job_id = service.submit(values("go", steps=400), picture)
    worker = psutil.Process(started(service, job_id))
    held = worker.memory_info().rss
    seen_before = service.status(job_id).step
    assert service.cancel(job_id)
    found = [event for _, event in service.attach(job_id)]
    assert found[-1] == StateChanged("cancelled")
    ended = found[-2]
    assert isinstance(ended, Cancelled)
    assert ended.step < 400
    assert ended.step >= seen_before
    assert worker.memory_info().rss < held - 150 * 2**20
    assert not service.cancel(job_id)
    with pytest.raises(UserError) as caught:
        service.result(job_id)
    assert caught.value.message.id == "jobs.not_done"


def test_a_cancel_right_after_submit_holds(service: JobService, picture: Path) -> None:
    for _ in range(5):
        job_id = service.submit(values("go", steps=200), picture)
        assert service.cancel(job_id)
        assert states([event for _, event in service.attach(job_id)])[-1] == "cancelled"
    assert states(run(service, picture))[-1] == "done"


def test_a_cancel_while_the_worker_starts_holds(
    service: JobService, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start_slowly(*arguments: object) -> Worker:
        assert service.cancel(job_id)
        return Worker(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr("i2v.jobs.service.Worker", start_slowly)
        with service._board.changed:  # so that the name is set before the job is taken
            job_id = service.submit(values("go", steps=200), picture)
        found = [event for _, event in service.attach(job_id)]
    assert states(found) == ["queued", "running", "cancelled"]
    assert not [event for event in found if isinstance(event, events.StepFinished)]


def test_a_job_laid_down_says_the_step_it_had_reached(service: JobService, picture: Path) -> None:
    """While it waits for its turn again, too, and when it is given up then."""

    def ending(job_id: str) -> events.Event:
        return [event for _, event in service.events(job_id) if isinstance(event, Paused | Cancelled)][-1]

    busy = service.submit(values(steps=400), picture)
    jobs = [service.submit(values(), picture) for _ in range(3)]
    store = service._board
    for step, job_id in enumerate(jobs):
        record = store.record(job_id)
        for index in range(1, step + 1):
            record.append(StepFinished("denoise", index, 4, 0.1, 0.1, 0.1))
        record.append(StepFinished("decode", 1, 2, 0.1, 0.1, 0.1))
        assert service.pause(job_id)
        assert ending(job_id) == Paused(step)
    assert service.resume(jobs[1])
    assert service.cancel(jobs[1])  # waiting
    assert service.cancel(jobs[2])  # laid down
    assert [ending(job_id) for job_id in jobs] == [Paused(0), Cancelled(1), Cancelled(2)]
    assert service.cancel(busy)


def test_what_a_run_took_over_counts_as_reached(service: JobService, picture: Path) -> None:
    busy, job_id = service.submit(values(steps=400), picture), service.submit(values(), picture)
    service._board.record(job_id).append(Resumed(3))
    assert service.cancel(job_id)
    assert [event for _, event in service.events(job_id)][-2:] == [Cancelled(3), StateChanged("cancelled")]
    assert service.cancel(busy)


def test_nothing_comes_after_the_end(service: JobService, picture: Path) -> None:
    found = run(service, picture, "fault_after_the_end")
    assert found[-1] == StateChanged("done")
    assert states(run(service, picture))[-1] == "done"
    first = service.jobs()[0]
    assert [event for _, event in service.attach(first.id)] == found
    assert (first.state, first.error) == ("done", None)


def test_a_worker_that_dies_after_the_end_makes_nothing_again(
    service: JobService, picture: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = run(service, picture, "die_after_the_end")
    run(service, picture)  # by then the lane has seen the death
    first = service.jobs()[0]
    assert [event for _, event in service.attach(first.id)] == found
    record = (first.folder / "events.jsonl").read_text()
    assert record.count('"type": "done"') == record.count('"state": "running"') == 1
    assert "taken_up_again" not in record
    assert caplog.text.count(f"during {first.id}") == 1  # an ended job writes nothing down: one worker had it, and died


def test_a_finished_job_cannot_be_cancelled(service: JobService, picture: Path) -> None:
    job_id = service.submit(values(), picture)
    list(service.attach(job_id))
    assert not service.cancel(job_id)
    assert service.status(job_id).state == "done"


# --- jobs that fail ---


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("user_error float16", "engine.not_finite"),
        ("out_of_memory Tried to allocate 2.00 GiB.", "worker.out_of_memory_at"),
        (f"os_error {errno.ENOMEM}", "worker.out_of_ram"),
        (f"os_error {errno.EACCES}", "worker.file"),
        ("fault", "worker.unexpected_model"),
    ],
)
def test_a_failed_job_says_why_and_the_next_one_runs(
    service: JobService, picture: Path, prompt: str, expected: str
) -> None:
    found = run(service, picture, prompt)
    assert failure(found) == expected
    assert states(run(service, picture)) == ["queued", "running", "decoding", "done"]
    first, second = service.jobs()
    assert first.worker_pid == second.worker_pid
    assert first.error is not None
    for locale in ("en", "zh-CN"):
        assert "{" not in first.error.render(locale)
    assert "Traceback" not in json.dumps([events.to_json(event) for event in found])


def test_an_out_of_memory_message_has_its_figures(service: JobService, picture: Path) -> None:
    run(service, picture, "out_of_memory Tried to allocate 2.00 GiB.")
    error = service.jobs()[0].error
    assert error is not None
    text = error.render()
    for figure in ("denoise", "64x64", "2 frames", "5.0 of 6.0 GiB", "Tried to allocate 2.00 GiB"):
        assert figure in text
    assert "advice" not in text


def test_the_traceback_is_in_the_log_only(service: JobService, picture: Path, tmp_path: Path) -> None:
    run(service, picture, "fault")
    log = tmp_path / "logs" / "worker.log"
    wait_until(lambda: "ValueError: no such thing" in log.read_text())
    assert "Traceback" in log.read_text()


# --- workers that end ---


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        (f"signal {int(signal.SIGKILL)}", "jobs.worker_killed"),
        (f"signal {int(signal.SIGSEGV)}", "jobs.worker_crashed"),
        ("exit 3", "jobs.worker_exited"),
        ("garble", "jobs.worker_garbled"),
        ("card_always_lost", "jobs.card_lost"),
    ],
)
def test_a_worker_that_ends_fails_its_job_and_the_next_gets_a_new_one(
    service: JobService, picture: Path, prompt: str, expected: str
) -> None:
    assert failure(run(service, picture, prompt)) == expected
    assert states(run(service, picture))[-1] == "done"
    first, second = service.jobs()
    assert first.worker_pid != second.worker_pid
    assert not psutil.pid_exists(first.worker_pid or 0)
    assert not list(first.folder.glob(".*"))


def test_a_job_goes_on_in_a_new_process_when_the_card_is_lost(service: JobService, picture: Path) -> None:
    """After a failed kernel the process that had it fails in every job that comes."""
    job_id = service.submit(values("card_lost"), picture)
    found = [event for _, event in service.attach(job_id)]
    assert found[-1] == StateChanged("done")
    told = [event.message for event in found if isinstance(event, Noted)]
    assert [one.id for one in told][-3:] == ["worker.card_lost", "jobs.card_lost", "jobs.taken_up_again"]
    assert "unspecified launch failure)" in told[-3].render()
    assert service.status(job_id).worker_pid != int((service.jobs()[-1].folder / "lost").read_text())


def test_a_worker_killed_while_it_waits_is_replaced(service: JobService, picture: Path) -> None:
    run(service, picture)
    pid = service.jobs()[0].worker_pid or 0
    os.kill(pid, signal.SIGKILL)
    assert states(run(service, picture))[-1] == "done"


def test_what_a_dead_worker_had_started_goes_with_it(service: JobService, picture: Path) -> None:
    assert failure(run(service, picture, "leave_a_child")) == "jobs.worker_killed"
    child = int((service.jobs()[0].folder / "child.pid").read_text())
    wait_until(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)


def test_a_worker_that_never_starts(tmp_path: Path, picture: Path) -> None:
    fake_model(tmp_path)
    deaf = (*SCRIPTED[:2], "deaf")
    with JobService(*settings_in(tmp_path), worker_command=deaf) as service:
        assert failure(run(service, picture)) == "jobs.worker_exited"
    with JobService(*settings_in(tmp_path), worker_command=("/nowhere/python",)) as service:
        assert failure(run(service, picture)) == "jobs.worker_not_started"
        assert failure(run(service, picture)) == "jobs.worker_not_started"


RAM_LOW = RamSeen(16 * GIB, 100 * 2**20, 12 * GIB, 0)
RAM_FINE = RamSeen(16 * GIB, 8 * GIB, 3 * GIB, 0)


@pytest.mark.parametrize(
    ("exit_code", "ram", "expected", "words"),
    [
        (-9, RAM_LOW, "jobs.worker_out_of_ram", ("12.0 GiB", "16.0 GiB", "0.1 GiB")),
        (-9, replace(RAM_FINE, kills=1), "jobs.worker_out_of_ram", ("3.0 GiB",)),
        (-9, RAM_FINE, "jobs.worker_killed", ("8.0 of 16.0 GiB", "worker.log")),
        (-11, RAM_LOW, "jobs.worker_crashed", ("SIGSEGV", "worker.log")),
        (-6, RAM_FINE, "jobs.worker_crashed", ("SIGABRT",)),
        (-50, RAM_FINE, "jobs.worker_crashed", ("50",)),
        (EXIT_CARD_LOST, RAM_FINE, "jobs.card_lost", ("restart the computer", "worker.log")),
        (1, RAM_FINE, "jobs.worker_exited", ("code 1", "worker.log")),
    ],
)
def test_why_a_worker_ended(exit_code: int, ram: RamSeen, expected: str, words: tuple[str, ...]) -> None:
    found = explain_death(exit_code, ram, Path("logs/worker.log"))
    assert found.id == expected
    for word in words:
        assert word in found.render()


# --- the world outside ---


def test_bad_input_leaves_nothing_behind(service: JobService, picture: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    for bad, image in ((values(width=3), picture), (values(), broken), (values(), None), (values(model="x"), picture)):
        with pytest.raises(UserError):
            service.submit(bad, image)
    assert service.jobs() == []
    assert [path.name for path in (tmp_path / "outputs").iterdir()] == [".i2v"]


def test_a_client_cannot_name_a_file_of_this_computer(service: JobService, picture: Path) -> None:
    with pytest.raises(UserError) as caught:
        service.submit(values(image=str(picture)), None)
    assert caught.value.message.id == "request.needed_image"


def test_an_output_folder_that_cannot_be_written(tmp_path: Path, picture: Path) -> None:
    fake_model(tmp_path)
    (tmp_path / "outputs").write_text("a file")
    with pytest.raises(UserError) as caught:
        JobService(*settings_in(tmp_path), worker_command=SCRIPTED)
    assert caught.value.message.id == "jobs.outputs_not_writable"
    (tmp_path / "outputs").unlink()
    with JobService(*settings_in(tmp_path), worker_command=SCRIPTED) as service:
        assert states(run(service, picture))[-1] == "done"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own with 256 KiB, at the place of the output folder."""
    folder = tmp_path / "outputs"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_is_said_and_harms_nothing(small_disk: Path, tmp_path: Path, picture: Path) -> None:
    fake_model(tmp_path)
    with JobService(*settings_in(tmp_path), worker_command=SCRIPTED) as service:
        kept = service.submit(values(), picture)
        list(service.attach(kept))
        noise = tmp_path / "noise.png"
        Image.effect_noise((600, 600), 90).convert("RGB").save(noise)
        with pytest.raises(UserError) as caught:
            service.submit(values(), noise)
        assert caught.value.message.id == "jobs.outputs_full"
        assert service.result(kept).read_bytes() == b"video"
        assert len(list(small_disk.glob("2*/*"))) == 1
        assert not list(small_disk.glob("2*/.*"))
        assert states(run(service, picture))[-1] == "done"


def test_a_record_that_cannot_be_written_does_not_end_the_run(service: JobService, picture: Path) -> None:
    service.submit(values("go", steps=20), picture)
    job_id = service.submit(values(), picture)
    file = service.status(job_id).folder / "events.jsonl"
    file.unlink()
    file.symlink_to("/dev/full")
    found = [event for _, event in service.attach(job_id)]
    assert states(found)[-1] == "done"
    assert "jobs.record_incomplete" in [event.message.id for event in found if isinstance(event, Noted)]


def test_closing_ends_every_run_and_loses_no_job(tmp_path: Path, picture: Path) -> None:
    fake_model(tmp_path)
    service = JobService(*settings_in(tmp_path), worker_command=SCRIPTED)
    ids = [service.submit(values("hold_lock"), picture), service.submit(values(), picture)]
    pid = started(service, ids[0], step=2)
    time.sleep(0.2)  # now it holds on to everything and hears nothing
    followers = [service.attach(job_id) for job_id in ids]
    service.close()
    service.close()
    assert not psutil.pid_exists(pid)
    for follower in followers:
        assert "done" not in states([event for _, event in follower])
    with pytest.raises(UserError) as caught:
        service.submit(values(), picture)
    assert caught.value.message.id == "jobs.closed"
    with JobService(*settings_in(tmp_path), worker_command=SCRIPTED) as service:
        assert [status.id for status in service.jobs()] == ids
        assert service.cancel(ids[0])
        assert states([event for _, event in service.attach(ids[1])])[-1] == "done"


def test_the_worker_sees_the_card_of_the_plan_and_no_other(tmp_path: Path) -> None:
    card = Gpu(index=1, uuid="GPU-1", name="card", total_bytes=GIB, free_bytes=GIB, used_bytes=0)
    _, probe = settings_in(tmp_path)
    seen = replace(probe.read(), gpus=(card,), gpu=card)
    assert visible_card(Plan(device="cuda"), seen) == "GPU-1"
    assert visible_card(Plan(device="simulated"), seen) == ""
    assert visible_card(Plan(device="cpu"), seen) == ""


class TwoCards:
    """A machine with two cards; `best` has most memory free."""

    def __init__(self, machine: Probe) -> None:
        self._machine = machine
        self.cards = [
            Gpu(index=n, uuid=f"GPU-{n}", name="card", total_bytes=24 * GIB, free_bytes=24 * GIB, used_bytes=0)
            for n in range(2)
        ]
        self.best = 0

    def read(self) -> Probe:
        return replace(self._machine, gpus=tuple(self.cards), gpu=self.cards[self.best])


def test_a_warm_worker_keeps_its_card_while_that_is_there(tmp_path: Path, picture: Path) -> None:
    fake_model(tmp_path)
    settings, probe = settings_in(tmp_path, cpu=None, preset="24gb")
    cards = TwoCards(probe.read())
    with JobService(settings, cards, worker_command=SCRIPTED) as service:

        def card_of_a_job() -> str:
            run(service, picture)
            return psutil.Process(service.jobs()[-1].worker_pid).environ()["CUDA_VISIBLE_DEVICES"]

        assert card_of_a_job() == "GPU-0"
        cards.best = 1  # what the worker holds makes the other card look better
        assert card_of_a_job() == "GPU-0"
        assert len({status.worker_pid for status in service.jobs()}) == 1
        cards.cards, cards.best = cards.cards[1:], 0
        assert card_of_a_job() == "GPU-1"


def test_waiting_threads_sleep_soon_unless_somebody_knows_better() -> None:
    assert worker_environment("", {})["GOMP_SPINCOUNT"] == "1000"
    assert worker_environment("", {"GOMP_SPINCOUNT": "7"})["GOMP_SPINCOUNT"] == "7"
    assert "GOMP_SPINCOUNT" not in worker_environment("", {"OMP_WAIT_POLICY": "ACTIVE"})


def test_the_worker_s_environment_is_ours_with_that_card_and_no_telemetry() -> None:
    environment = worker_environment("GPU-1", {"PATH": "/bin", "CUDA_VISIBLE_DEVICES": "0", "OMP_NUM_THREADS": "3"})
    assert environment["CUDA_VISIBLE_DEVICES"] == "GPU-1"
    assert environment["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert environment["HF_HUB_DISABLE_TELEMETRY"] == "1"
    assert environment["OMP_NUM_THREADS"] == "3"
    assert environment["PATH"] == "/bin"


def test_the_service_needs_no_torch() -> None:
    heavy = "torch diffusers transformers gradio"
    code = f"import sys, i2v.jobs.service; print([m for m in '{heavy}'.split() if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"


# --- what a video is made from ---

CLIP = InputSlot("video", None)


@pytest.fixture
def clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two seconds of film, where the model makes videos from those, from pictures, and from text alone."""
    tasks = {"i2v": (InputSlot("image"),), "t2v": (), "v2v": (CLIP,)}
    monkeypatch.setitem(SPECS, "i2vgen_xl", replace(SPECS["i2vgen_xl"], inputs=tasks))
    return film(tmp_path / "holiday.MOV", "-c:v", "libx264", "-preset", "ultrafast", "-f", "mov")


def test_a_job_from_a_clip_keeps_its_own_copy(service: JobService, clip: Path) -> None:
    content = clip.read_bytes()
    job_id = service.submit(values(strength=0.5), None, clip=clip)
    clip.unlink()
    list(service.attach(job_id))
    status = service.status(job_id)
    assert (status.state, status.request.task) == ("done", "v2v")
    assert status.request.inputs == (Input("video", "input_clip.mov", at=None, strength=0.5),)
    assert (status.folder / "input_clip.mov").read_bytes() == content
    assert not (status.folder / "input.png").exists()

    again = service.status(service.retry(job_id, {"seed": 9, "strength": 0.25}))
    assert again.request.inputs == (Input("video", "input_clip.mov", at=None, strength=0.25),)
    assert (again.folder / "input_clip.mov").read_bytes() == content
    rebuilt = job_from_folder(status.folder)
    assert rebuilt is not None
    assert (rebuilt.request, rebuilt.state) == (status.request, "done")


def test_a_job_from_a_clip_is_decoded_again_at_any_rate(service: JobService, clip: Path) -> None:
    """Slower, its frames would need a longer clip than there is; but they are made."""
    job_id = service.submit(values(fps=16, frames=32), None, clip=clip)
    list(service.attach(job_id))
    (service.status(job_id).folder / LATENTS).write_bytes(b"latents")
    again = service.status(service.redecode(job_id, {"fps": 4}))
    assert (again.request.fps, again.request.num_frames, again.request.task) == (4, 32, "v2v")
    assert (again.folder / LATENTS).is_file()
    with pytest.raises(UserError) as refused:
        service.retry(job_id, {"fps": 4})
    assert refused.value.message.id == "clip.too_short"


def test_a_job_is_decoded_again_in_the_parts_that_it_was_decoded_in(service: JobService, picture: Path) -> None:
    """Its plan had come down to them. And nobody is told how many steps would be better: none is made."""
    job_id = service.submit(values(steps=1), picture)
    told = [event for _, event in service.attach(job_id)]
    assert "request.hint_steps" in [event.message.id for event in told if isinstance(event, Noted)]
    job = service._board.known(job_id)
    (service.status(job_id).folder / LATENTS).write_bytes(b"latents")
    service._board._ended.clear()
    service._board.store.update(job_id, plan=replace(job.plan, decode_frames=7))
    for changes, frames in ({}, 7), ({"decode_frames": "auto"}, 7), ({"decode_frames": 5, "fps": 4}, 5):
        again = service.redecode(job_id, changes)
        assert service.status(again).plan.decode_frames == frames
        assert [event for _, event in service.events(again) if isinstance(event, Noted)] == []


def test_a_job_from_text_alone_needs_no_picture(service: JobService, clip: Path) -> None:
    job_id = service.submit(values(), None)
    list(service.attach(job_id))
    status = service.status(job_id)
    assert (status.state, status.request.task, status.request.inputs) == ("done", "t2v", ())
    assert service.status(service.retry(job_id)).request == status.request


def test_a_clients_words_name_no_clip_of_this_computer(service: JobService, picture: Path, clip: Path) -> None:
    job_id = service.submit(values(video=str(clip)), picture)
    assert service.status(job_id).request.inputs == first_image("input.png")


def test_nothing_is_left_of_a_job_whose_clip_is_none(service: JobService, picture: Path, clip: Path) -> None:
    clip.write_bytes(clip.read_bytes()[:2000])
    for bad in (clip, picture, clip.with_name("none.mp4")):
        with pytest.raises(UserError):
            service.submit(values(), None, clip=bad)
    assert service.jobs() == []
    assert not list((clip.parent / "outputs").glob("*-*-*/*"))


def test_a_job_has_its_loras_by_contents_and_is_decoded_again_without_them(
    service: JobService, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They lie in the models folder; what is decoded needs none of them, and its request says still what was used."""
    monkeypatch.setitem(SPECS, "i2vgen_xl", replace(SPECS["i2vgen_xl"], lora_names=HUNYUAN_VIDEO))
    file = tmp_path / "models" / FOLDER / "style.safetensors"
    file.parent.mkdir()
    key = "transformer_blocks.0.attn.to_q.lora_{}.weight"
    save_file({key.format("A"): np.ones((2, 8)), key.format("B"): np.ones((8, 2))}, file)
    job_id = service.submit(values(lora=["style:0.5", str(file)]), picture)
    assert isinstance([event for _, event in service.attach(job_id)][-2], Done)
    made = GenerationRequest.from_json(json.loads((service.status(job_id).folder / "request.json").read_text()))
    digest = content_of(file)
    assert made.adapters == (Adapter("style", 0.5, digest), Adapter("style", 1.0, digest))
    (service.status(job_id).folder / "latents.safetensors").write_bytes(b"latents")
    again = service.retry(job_id)
    assert service.status(again).request.adapters == made.adapters
    file.unlink()
    with pytest.raises(UserError) as refused:
        service.retry(job_id)
    assert refused.value.message.id == "models.adapter_missing"
    assert service.status(service.redecode(job_id)).request.adapters == made.adapters
