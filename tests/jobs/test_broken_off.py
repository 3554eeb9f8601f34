"""What is broken off between a job's folder and its row leaves both or neither, whatever breaks it off."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from PIL import Image

from i2v.jobs import intake
from i2v.jobs.job import folder
from i2v.jobs.job.folder import create_job_folder
from i2v.jobs.list import board
from i2v.jobs.list.board import Board
from i2v.jobs.list.rebuild import job_folders
from i2v.jobs.list.store import JobStore
from i2v.jobs.service import JobService
from i2v.messages import UserError
from tests.jobs.support import PLAN, REQUEST, new_job, ran_to, with_folder
from tests.jobs_support import MODEL, SCRIPTED, fake_model, settings_in, small_picture, values

ERRORS = (KeyboardInterrupt, OSError, MemoryError, RuntimeError, ValueError)


@contextmanager
def resting(where: Path) -> Iterator[JobService]:
    """A service that starts nothing."""
    fake = where / "models" / MODEL
    if not fake.exists():
        fake_model(where)
    settings, probe = settings_in(where, max_jobs_per_minute=1000, max_queue=1000, max_queue_per_owner=1000)
    with JobService(settings, probe, worker_command=SCRIPTED) as service:
        service.pause_queue()
        yield service


def in_folders(outputs: Path) -> set[str]:
    return {found.name for found in job_folders(outputs)}


def in_list(outputs: Path) -> set[str]:
    """The ids that the next start finds, and would run."""
    with JobStore(outputs) as store:
        return {job.id for job in store.waiting()}


def break_off(call: Callable[[], Any], of: Any, name: str, error: type[BaseException], *, after: bool = True) -> None:
    """Call, while the function `name` fails once, after it has done its work or before it. An OSError may arrive as
    what a person can act on."""
    real, failed = getattr(of, name), []

    def fail(*args: Any, **more: Any) -> Any:
        if failed:
            return real(*args, **more)
        failed.append(True)
        if after:
            real(*args, **more)
        raise error("broken off")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(of, name, fail)
        with pytest.raises((error, UserError)):
            call()
    assert failed


MOMENTS: dict[str, tuple[Any, str, bool]] = {
    "a file of the folder": (folder, "_write_json", True),
    "the picture": (Image.Image, "save", True),
    "the folder has its name": (Path, "rename", True),
    "the folder is made": (intake, "create_job_folder", True),
    "what is carried over": (intake, "carry_over", True),
    "before the list": (Board, "add", False),
    "in the list's own change": (JobStore, "add", False),
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("error", ERRORS)
def test_without_a_row_there_is_no_folder(tmp_path: Path, moment: str, error: type[BaseException]) -> None:
    with resting(tmp_path) as service:
        kept = service.submit(values("kept"), small_picture(tmp_path))
        of, name, after = MOMENTS[moment]
        break_off(lambda: service.retry(kept), of, name, error, after=after)
        assert in_folders(tmp_path / "outputs") == {kept}
        assert not list((tmp_path / "outputs").glob("2*/.*"))
        assert [job.id for job in service.jobs()] == [kept]
    assert in_list(tmp_path / "outputs") == {kept}


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("moment", ["the row is there", "its record", "its owner is told"])
def test_with_a_row_the_folder_stays(tmp_path: Path, moment: str, error: type[BaseException]) -> None:
    of, name = {
        "the row is there": (JobStore, "add"),
        "its record": (board.JobRecord, "append"),
        "its owner is told": (Board, "add"),
    }[moment]
    with resting(tmp_path) as service:
        break_off(lambda: service.submit(values(), small_picture(tmp_path)), of, name, error)
        (job,) = service.jobs()
        assert (job.folder / "request.json").is_file()
        assert (job.folder / "input.png").is_file()
    assert in_folders(tmp_path / "outputs") == in_list(tmp_path / "outputs") == {job.id}


@contextmanager
def interrupted_at(line: int, files: set[str]) -> Iterator[list[int]]:
    """Ctrl-C when so many lines of `files` have been begun; yields how many there were."""
    seen = [0]

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        if frame.f_code.co_filename not in files:
            return None
        if event == "line":
            seen[0] += 1
            if seen[0] == line:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        yield seen
    finally:
        sys.settrace(None)


def test_ctrl_c_at_any_line_leaves_both_or_neither(tmp_path: Path) -> None:
    files = {module.__file__ for module in (folder, intake, board)}
    others = ("i2v.jobs.list.store", "i2v.jobs.list.file", "i2v.jobs.job.record", "i2v.whole_file")
    files |= {sys.modules[name].__file__ for name in others}
    outputs, picture, interruptions = tmp_path / "outputs", small_picture(tmp_path), 0
    with resting(tmp_path) as service_:
        with interrupted_at(0, files) as lines:
            service_.submit(values(), picture)
        assert lines[0] > 100
        for line in range(1, lines[0], 2):
            try:
                with interrupted_at(line, files):
                    service_.submit(values(), picture)
            except KeyboardInterrupt:
                interruptions += 1
            assert in_folders(outputs) == {job.id for job in service_._board.store.jobs()}
        assert interruptions > 0.9 * (lines[0] // 2)


# --- brothers ---


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize(
    ("of", "name"),
    [(folder, "_write_json"), (folder.json, "dumps"), (Path, "rename")],
    ids=lambda value: str(value)[-20:],
)
def test_a_job_folder_is_whole_or_not_there(tmp_path: Path, of: Any, name: str, error: type[BaseException]) -> None:
    now = datetime(2026, 1, 2)
    break_off(lambda: create_job_folder(tmp_path, "id", now, REQUEST, PLAN, None), of, name, error)
    assert not [path for day in tmp_path.iterdir() for path in day.iterdir()]


def finished(service: JobService, outputs: Path) -> str:
    job = new_job(state="done")
    with_folder(outputs, job, *ran_to("done"))
    return service._board.store.add(job).id


@pytest.mark.parametrize("error", ERRORS)
def test_a_job_that_could_not_be_moved_to_the_bin_is_still_in_the_list(
    tmp_path: Path, error: type[BaseException]
) -> None:
    with resting(tmp_path) as service:
        job_id = finished(service, tmp_path / "outputs")
        break_off(lambda: service.delete(job_id), Path, "rename", error, after=False)
        assert service.status(job_id).state == "done"
        service.delete(job_id)
        service.restore(job_id)
        assert service.status(job_id).state == "done"


@pytest.mark.parametrize("error", ERRORS)
def test_a_job_that_came_half_of_the_way_out_of_the_bin_comes_the_other_half(
    tmp_path: Path, error: type[BaseException]
) -> None:
    with resting(tmp_path) as service:
        job_id = finished(service, tmp_path / "outputs")
        service.delete(job_id)
        break_off(lambda: service.restore(job_id), JobStore, "restore", error, after=False)
        service.restore(job_id)
        assert service.status(job_id).state == "done"
