"""Jobs whose model is not on the disk: they wait for its download, others run meanwhile, and then it is their turn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from i2v.events import Noted, Paused, PhaseStarted, StateChanged
from i2v.jobs.job.record import JobStatus
from i2v.jobs.service import JobService
from i2v.messages import LOCALES
from i2v.ui.queue.rows import queue_list
from tests.downloads.support import NAME, REPO, STOP, come_so_far, ended, state, whole
from tests.hub_server import Hub
from tests.jobs_support import SCRIPTED, fake_model, settings_in, small_picture, values, wait_until

pytestmark = pytest.mark.drives


def open_service(folder: Path, hub: Hub) -> JobService:
    return JobService(*settings_in(folder, hf_endpoint=hub.url), worker_command=SCRIPTED)


@pytest.fixture
def service(hub: Hub, tmp_path: Path) -> Iterator[JobService]:
    fake_model(tmp_path)
    with open_service(tmp_path, hub) as service:
        yield service


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return small_picture(tmp_path)


def job_state(service: JobService, job_id: str) -> str:
    return service.status(job_id).state


def waits_for(service: JobService, job_id: str) -> str:
    told = service.status(job_id).waits_for
    if told is not None:
        assert all("{" not in told.render(locale) for locale in LOCALES)
    return told.id if told else ""


def finished(service: JobService, job_id: str) -> JobStatus:
    wait_until(lambda: job_state(service, job_id) == "done", 60)
    return service.status(job_id)


def test_others_run_while_a_job_waits_for_its_model(
    service: JobService, hub: Hub, picture: Path, tmp_path: Path
) -> None:
    hub.file_stalls_after = STOP
    waiting = service.submit(values(model=NAME), picture)
    assert state(service.downloads) in ("waiting", "coming")
    come_so_far(tmp_path)
    other = service.submit(values(), picture)
    finished(service, other)
    assert job_state(service, waiting) == "queued"
    wait_until(lambda: waits_for(service, waiting).startswith("jobs.model_comes"))
    status = service.status(waiting)
    assert (status.position, status.starts_in) == (0, None), "it has no turn yet"
    assert "MiB" in status.to_json()["waits_for"]["text"]
    assert status.waits_for.render("en") in queue_list(service.jobs(), {}, {}, 0.0, "en")
    service.downloads.pause(NAME)
    wait_until(lambda: waits_for(service, waiting) == "jobs.model_paused")
    hub.file_stalls_after = None
    service.downloads.resume(NAME)
    status = finished(service, waiting)
    assert (status.waits_for, whole(tmp_path, hub)) == (None, True)
    found = [event for _, event in service.events(waiting)]
    assert PhaseStarted("load", "download") not in found, "the worker fetched nothing"
    told = {event.message.id for event in found if isinstance(event, Noted)}
    assert {"jobs.model_waits", "jobs.model_paused"} <= told
    assert [event.state for event in found if isinstance(event, StateChanged)] == [
        "queued", "running", "decoding", "done",
    ]  # fmt: skip


def test_a_model_comes_while_another_job_runs(service: JobService, hub: Hub, picture: Path) -> None:
    long = service.submit(values(steps=400), picture)
    wait_until(lambda: service.status(long).step >= 1)
    waiting = service.submit(values(model=NAME), picture)
    assert ended(service.downloads) == "done"
    assert job_state(service, long) == "running"
    service.cancel(long)
    finished(service, waiting)


def test_two_jobs_of_one_model_make_one_download(service: JobService, hub: Hub, picture: Path) -> None:
    hub.file_stalls_after = STOP
    jobs = [service.submit(values(model=name), picture) for name in (NAME, REPO)]
    wait_until(lambda: all(waits_for(service, job) for job in jobs))
    assert [one.id for one in service.downloads.all()] == [NAME]
    service.cancel(jobs[0])
    assert state(service.downloads) == "coming", "a job that goes takes no download with it"
    service.downloads.pause(NAME)
    hub.file_stalls_after = None
    service.downloads.resume(NAME)
    finished(service, jobs[1])
    assert job_state(service, jobs[0]) == "cancelled"
    assert [one.state for one in service.downloads.all()] == ["done"]


def test_a_job_whose_model_does_not_come_is_laid_down_and_goes_on(hub: Hub, picture: Path, tmp_path: Path) -> None:
    hub.file_status = 404
    with open_service(tmp_path, hub) as service:
        job = service.submit(values(model=NAME), picture)
        wait_until(lambda: job_state(service, job) == "paused", 60)
        assert state(service.downloads) == "failed"
        status = service.status(job)
        assert status.waits_for.id == "jobs.model_failed"
        assert all("{" not in status.waits_for.render(locale) for locale in LOCALES)
        assert service.downloads.of(NAME).error.render("en") in status.waits_for.render("en")
        assert "did not come" in queue_list(service.jobs(), {}, {}, 0.0, "en")
        assert any(isinstance(event, Paused) for _, event in service.events(job))
    hub.file_status = None
    with open_service(tmp_path, hub) as service:
        assert (job_state(service, job), state(service.downloads)) == ("paused", "failed")
        service.downloads.resume(NAME)
        finished(service, job)


def test_a_job_that_is_resumed_tries_the_download_again(service: JobService, hub: Hub, picture: Path) -> None:
    hub.file_status = 404
    job = service.submit(values(model=NAME), picture)
    wait_until(lambda: job_state(service, job) == "paused", 60)
    hub.file_status = None
    assert service.resume(job)
    finished(service, job)


def test_a_download_that_is_cancelled_lays_its_jobs_down(
    service: JobService, hub: Hub, picture: Path, tmp_path: Path
) -> None:
    hub.file_stalls_after = STOP
    job = service.submit(values(model=NAME), picture)
    come_so_far(tmp_path)
    service.downloads.cancel(NAME)
    wait_until(lambda: job_state(service, job) == "paused")
    assert service.status(job).waits_for.id == "jobs.model_cancelled"
    assert service.downloads.all() == [], "the job has not asked for it again by itself"
    hub.file_stalls_after = None
    service.resume(job)
    finished(service, job)


def test_started_again_jobs_wait_for_what_is_coming(hub: Hub, picture: Path, tmp_path: Path) -> None:
    hub.file_stalls_after = STOP
    with open_service(tmp_path, hub) as service:
        job = service.submit(values(model=NAME), picture)
        come_so_far(tmp_path)
    hub.file_stalls_after = None
    with open_service(tmp_path, hub) as service:
        finished(service, job)
        assert [one.state for one in service.downloads.all()] == ["done"]


def test_the_command_lines_own_jobs_fetch_in_the_worker(hub: Hub, picture: Path, tmp_path: Path) -> None:
    with JobService(
        *settings_in(tmp_path, hf_endpoint=hub.url), worker_command=SCRIPTED, own_jobs_only=True
    ) as service:
        assert service.downloads is None
        job = service.submit(values(model=NAME), picture)
        finished(service, job)
        assert PhaseStarted("load", "download") in [event for _, event in service.events(job)]
