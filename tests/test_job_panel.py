"""The job that a page shows: sent off, followed by one tab or several, asked after, found again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from jobs_support import settings_in, small_picture, values, wait_until
from page_support import is_skip, scripted_service, uploaded_picture

from i2v import events as ev
from i2v.jobs.job.states import LIVE
from i2v.jobs.service import JobService
from i2v.messages import UserError, message
from i2v.ui.create import form
from i2v.ui.page import _Page
from i2v.ui.shown import follow
from i2v.ui.shown.follow import Followers
from i2v.ui.shown.view import Shown


@pytest.fixture
def service(tmp_path: Path) -> Iterator[JobService]:
    with scripted_service(tmp_path) as running:
        yield running


def test_a_tab_follows_a_job_and_is_sent_only_what_is_new(service: JobService, tmp_path: Path) -> None:
    page = _Page(service, *settings_in(tmp_path))
    job_id = service.submit(values(), small_picture(tmp_path))
    first = page._look(None, job_id, Shown(), "en")
    assert first[-1] == job_id
    wait_until(lambda: page.followers.view(job_id).progress.final and service.status(job_id).state == "done")
    wait_until(lambda: page.followers.view(job_id).events[-1] == ev.StateChanged("done"))
    last = page._look(None, job_id, first[0], "en")
    shown, status, stage = last[:3]
    assert "Done: 2 frames" in status
    assert f"{job_id}/video.mp4" in stage
    generate, cancel, pause, retry, redecode, following, timer = last[5:12]
    assert (generate["value"], cancel["interactive"], timer["active"]) == ("Generate", False, False)
    # No latents are kept, and no other job waits.
    assert [button["visible"] for button in (pause, retry, redecode, following)] == [False] * 4
    assert all(is_skip(update) for update in page._look(None, job_id, shown, "en"))
    assert not is_skip(page._look(None, job_id, shown, "zh-CN")[1])


def test_a_second_tab_and_a_reload_see_the_same_run(service: JobService, tmp_path: Path) -> None:
    page = _Page(service, *settings_in(tmp_path))
    job_id = service.submit(values("waves", steps=200), small_picture(tmp_path))
    wait_until(lambda: page.followers.view(job_id).progress.step > 3)
    restored = page._restored(None, job_id, "en")
    count = len(page._job_outputs)
    assert "step" in restored[1]
    assert Path(restored[count]).is_file()
    assert dict(zip(form.FIELDS, restored[count + 3 : -1], strict=True))["prompt"] == "waves"
    stopped = page._cancel(None, job_id, restored[0], "en")
    assert stopped[6]["interactive"] is False
    wait_until(lambda: page.followers.view(job_id).progress.state == "cancelled")


def test_a_tab_closed_before_it_heard_of_its_job_finds_it_again(service: JobService, tmp_path: Path) -> None:
    page = _Page(service, *settings_in(tmp_path))
    ended = service.submit(values(), small_picture(tmp_path))
    wait_until(lambda: service.status(ended).state == "done")
    assert page._restored(None, ended, "en")[0].job_id == ended
    sent = service.submit(values(steps=400), small_picture(tmp_path))
    service.submit(values(steps=400), small_picture(tmp_path), owner="ann")
    opened = [page._restored(None, known, "en")[0].job_id for known in ("", ended, "20200101-000000-abcdef", sent)]
    assert opened == [sent] * 4
    service.cancel(sent)


def test_more_jobs_are_sent_while_one_runs_and_shown_when_it_has_ended(service: JobService, tmp_path: Path) -> None:
    page = _Page(service, *settings_in(tmp_path))
    upload = uploaded_picture(tmp_path, "more")

    def generate(showing: str, prompt: str) -> list[Any]:
        raw = (dict.fromkeys(form.FIELDS) | values(prompt, steps=400)).values()
        return page._generate(None, "en", showing, {"path": str(upload)}, None, None, *raw)

    first = generate("", "first")[-1]
    wait_until(lambda: service.status(first).state == "running")
    sent = generate(first, "second")
    generate(first, "third")
    jobs = {job.request.prompt: job.id for job in service.jobs()}
    assert (sent[0].job_id, sent[5]["value"]) == (first, "Add to the queue")
    assert "1 more in the queue" in sent[1]
    shown = page._look(None, first, sent[0], "en")
    assert "2 more in the queue" in shown[1]
    service.cancel(first)
    wait_until(lambda: page.followers.view(first).progress.state == "cancelled")
    wait_until(lambda: service.status(jobs["second"]).state == "running")
    ended = page._look(None, first, shown[0], "en")
    generate_button, following, timer = ended[5], ended[10], ended[11]
    assert (generate_button["value"], following["visible"], timer["active"]) == ("Generate", True, True)
    assert "in the queue" not in ended[1]
    following = page._next(None, first, ended[0], "en")
    assert following[-1] == jobs["second"]
    # A look at the first that was on its way comes too late; the second is followed.
    assert all(is_skip(update) for update in page._look(None, first, following[0], "en"))
    wait_until(lambda: not is_skip(page._look(None, jobs["second"], following[0], "en")[1]))
    for name in ("third", "second"):
        service.cancel(jobs[name])
    wait_until(lambda: not service.jobs(states=LIVE))
    assert page._look(None, first, ended[0], "en")[10]["visible"] is False


def test_a_job_of_an_earlier_start_is_told_and_forgotten(service: JobService, tmp_path: Path) -> None:
    page = _Page(service, *settings_in(tmp_path))
    outputs = page._restored(None, "20200101-000000-abcdef", "en")
    assert "Ready" in outputs[1]
    assert "20200101-000000-abcdef" in outputs[page._job_outputs.index(page.told)]
    assert outputs[len(page._job_outputs) - 1] == ""
    assert len(outputs) == len(page._job_outputs) + 3 + len(form.FIELDS) + 1


def test_a_refusal_stands_on_the_page_and_starts_nothing(service: JobService, tmp_path: Path) -> None:
    page = _Page(service, *settings_in(tmp_path))
    raw = list((dict.fromkeys(form.FIELDS) | {"prompt": "x", "steps": 0}).values())
    told = page._job_outputs.index(page.told)
    assert "no photograph" in page._generate(None, "en", "", None, None, None, *raw)[told]
    upload = uploaded_picture(tmp_path, "t")
    refused = page._generate(None, "zh-CN", "", {"path": str(upload)}, None, None, *raw)
    assert "步数须为 1–500 的整数。" in refused.pop(told)
    assert all(is_skip(update) for update in refused)  # the status of a job that runs, too
    assert service.jobs() == []


def planned_for(seconds: float) -> SimpleNamespace:
    return SimpleNamespace(prediction=SimpleNamespace(seconds=seconds))


def test_a_run_of_hours_is_asked_after_whatever_plan_the_page_shows(service: JobService, tmp_path: Path) -> None:
    """Generate may be pressed before the plan of what has just been typed has arrived."""
    page, seconds = _Page(service, *settings_in(tmp_path)), {"5": 10.0, "50": 40_000.0}
    service.pause_queue()
    service.plan = lambda values: (planned_for(seconds[str(values["steps"])]), ())

    picture = {"path": str(uploaded_picture(tmp_path, "hours"))}

    def sent(steps: int, agreed: object) -> tuple[int, str]:
        raw = [values(steps=steps).get(name) for name in form.FIELDS]
        *updates, asked = page._asked_first(None, "en", agreed, "", picture, None, None, *raw)
        assert len(updates) == len(page._job_outputs)
        return len(service.jobs()), asked

    assert sent(5, None) == (1, "")
    assert sent(50, None) == (1, "This run will take about 11 h. Start it?")
    assert sent(50, "yes") == (1, "This run will take about 11 h. Start it?")
    assert sent(50, True) == (2, "")
    scouts = [None, 3, "", picture, None, None, *[values(steps=50).get(name) for name in form.FIELDS]]
    assert page.scout.asked_first(None, "en", *scouts)[-1] == message("ui.ask_long_scouts").render()
    assert len(service.jobs()) == 2


def test_a_job_that_waits_for_a_paused_queue_says_so_and_lets_it_go_on(service: JobService, tmp_path: Path) -> None:
    page = _Page(service, *settings_in(tmp_path))
    unhold, told = (page._job_outputs.index(one) for one in (page.unhold, page.told))
    service.pause_queue()
    job_id = service.submit(values(steps=400), small_picture(tmp_path))
    shown = page._look(None, job_id, Shown(), "en")
    assert "next in line · the queue is paused" in shown[1]
    assert (shown[unhold]["visible"], shown[told]) == (True, "")
    asked = SimpleNamespace(username="ann", client=None)
    theirs = service.submit(values(steps=400), small_picture(tmp_path), "ann")
    assert page._look(asked, theirs, Shown(), "en")[unhold]["visible"] is False  # the queue is everybody's
    gone_on = page._unhold(None, job_id, shown[0], "en")
    assert ("paused" in gone_on[1], gone_on[unhold]["visible"], service.queue_paused) == (False, False, False)
    for one in (theirs, job_id):
        service.cancel(one)


def test_followers_forget_finished_jobs_and_can_look_again(service: JobService, tmp_path: Path) -> None:
    followers = Followers(service)
    job_id = service.submit(values(), small_picture(tmp_path))
    followers.view(job_id)
    wait_until(lambda: followers.view(job_id).progress.final)
    again = Followers(service)
    again.view(job_id)
    wait_until(lambda: again.view(job_id) == followers.view(job_id))
    with pytest.raises(UserError):
        followers.view("nobody")


def test_many_jobs_keep_neither_threads_nor_views(service: JobService, tmp_path: Path) -> None:
    followers = Followers(service)
    running = service.submit(values(steps=400), small_picture(tmp_path))
    wait_until(lambda: service.status(running).step > 1)
    jobs = [service.submit(values(steps=1), small_picture(tmp_path)) for _ in range(6)]
    before = threading.active_count()
    for job_id in (running, *jobs):
        followers.view(job_id)
    assert threading.active_count() == before
    service.cancel(running)
    for job_id in jobs:
        wait_until(lambda job_id=job_id: followers.view(job_id).progress.final)
    follow.KEPT, kept = 2, follow.KEPT
    try:
        assert followers.view(jobs[0]).events[-1] == ev.StateChanged("done")
        assert len(followers._views) == 2
        assert followers.view(jobs[3]).events[-1] == ev.StateChanged("done")  # forgotten, and read again
    finally:
        follow.KEPT = kept
