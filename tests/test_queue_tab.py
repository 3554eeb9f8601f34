"""The Queue tab without a browser: the order of the list, what may be asked of a job, and what it does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from jobs_support import wait_until
from tabs_support import chosen, finish, is_skip, resting_service, submit

from i2v.events import PreviewReady, StateChanged
from i2v.jobs.job.record import JobStatus
from i2v.jobs.job.states import ALLOWED, STATES
from i2v.jobs.service import JobService
from i2v.messages import LOCALES, message
from i2v.plan import Plan
from i2v.request import GenerationRequest
from i2v.ui.queue.rows import ACTIONS, Seen, Times, about, in_order, places_in_line, queue_list, queue_summary, times
from i2v.ui.queue.tab import QueueShown, QueueTab
from i2v.ui.shown.follow import Followers
from i2v.ui.shown.format import clock
from i2v.ui.shown.posters import Posters
from i2v.ui.texts import build_i18n

REQUEST = GenerationRequest("nano", "a prompt", 64, 64, 8, 8, 4, 1.0, 1)


def job(job_id: str, state: str, **more: object) -> JobStatus:
    made = JobStatus(job_id, state, "", 0, 4, None, None, None, 0, Path("/o") / job_id, REQUEST, Plan(), "local")
    return replace(made, **more)


def ids(html: str) -> list[str]:
    """The jobs of a list, by the first button of each."""
    return list(dict.fromkeys(re.findall(r'data-id="([^"]*)"', html)))


def test_the_list_is_in_the_order_of_running() -> None:
    jobs = [
        *(job("ended early", "done", ended=10.0), job("ended late", "failed", ended=20.0)),
        *(job("second", "queued", position=2), job("first", "queued", position=1)),
        *(job("laid down", "paused", submitted=1.0), job("at work", "decoding", started=5.0)),
    ]
    order = ["at work", "first", "second", "laid down", "ended late", "ended early"]
    assert [found.id for found in in_order(jobs)] == order
    assert [found.id for found in in_order(jobs[::-1])] == order


def test_times_come_from_predictions_and_from_what_is_left() -> None:
    running = job("r", "running", started=100.0, seconds_predicted=50.0, seconds_left=2.0)
    assert times(running, 120.0) == Times(None, 30.0)
    assert times(running, 149.0) == Times(None, 2.0)
    assert times(replace(running, seconds_predicted=None, seconds_left=None), 120.0) == Times()
    waiting = job("w", "queued", starts_in=30.0, seconds_predicted=50.0)
    assert times(waiting, 120.0) == Times(30.0, 80.0)
    assert times(replace(waiting, seconds_predicted=None), 120.0) == Times(30.0, None)
    assert times(replace(waiting, starts_in=None), 120.0) == Times()
    assert times(job("d", "done", started=1.0, ended=2.0), 120.0) == Times()


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "5 s"), (43, "45 s"), (99, "100 s"), (100, "2 min"), (3599, "60 min"), (7300, "2 h 2 min")],
)
def test_a_time_to_come_is_no_finer_than_it_is_known(seconds: float, said: str) -> None:
    assert about(seconds, "en") == said


def test_a_job_changes_places_with_its_owners_own_of_equal_priority_only() -> None:
    mine = [job(f"m{i}", "queued", position=2 * i + 1) for i in range(3)]
    others = [job("o", "queued", position=2, owner="other"), job("u", "queued", position=0, priority=1)]
    ended = job("d", "done")
    assert places_in_line([*mine[::-1], *others, ended]) == {
        "m0": (1, 3), "m1": (2, 3), "m2": (3, 3), "o": (1, 1), "u": (1, 1)
    }  # fmt: skip


def test_what_may_be_asked_follows_from_the_state() -> None:
    """The table of allowed changes is the jobs' own."""
    asks = {"pause": "paused", "cancel": "cancelled", "resume": "queued"}
    for state in STATES:
        offered = {asks[act] for act in ACTIONS[state] if act in asks}
        assert offered <= ALLOWED[state]
        assert ("cancelled" in ALLOWED[state]) == ("cancel" in ACTIONS[state])


@pytest.mark.parametrize("locale", LOCALES)
def test_every_state_has_its_words_and_its_buttons(locale: str) -> None:
    jobs = [
        job(state, state, step=2, phase="denoise", position=1, started=1.0, ended=9.0, seconds_predicted=5.0)
        for state in STATES
    ]
    failed = replace(jobs[STATES.index("failed")], error=message("jobs.closed"), task="decode")
    shown = queue_list(in_order([*jobs, failed]), {}, {"running": "pause"}, 4.0, locale)
    shown += queue_summary(jobs, True, 4.0, locale)
    assert not re.search(r"(ui|jobs)\.\w|[{}]", shown)
    for state in STATES:
        acts = re.findall(rf'data-act="(\w+)" data-id="{state}"', shown)
        assert set(acts) == set(ACTIONS[state])


def test_nothing_a_person_wrote_is_markup() -> None:
    evil = '"><img src=x onerror=alert(1)>'
    request = replace(REQUEST, prompt=evil, model=evil)
    shown = queue_list([job(evil, "queued", request=request, owner=evil)], {evil: Seen(evil)}, {}, 0.0, "en")
    assert "<img src=x" not in shown
    assert shown.count("&lt;img src=x") >= 5


def test_the_ends_of_the_line_cannot_be_moved_further() -> None:
    jobs = [job(f"{i}", "queued", position=i) for i in (1, 2, 3)]
    shown = queue_list(jobs, {}, {}, 0.0, "en")
    disabled = re.findall(r'data-act="(\w+)" data-id="(\d)"[^>]* disabled', shown)
    assert disabled == [("top", "1"), ("up", "1"), ("down", "3")]


def test_twenty_jobs_and_none_have_each_their_look() -> None:
    assert "No jobs yet" in queue_list([], {}, {}, 0.0, "en")
    shown = queue_list([job(f"{i}", "queued", position=i) for i in range(1, 21)], {}, {}, 0.0, "en")
    assert shown.count('class="i2v-job queued"') == 20
    assert "Nothing runs" in queue_list([job("d", "done")], {}, {}, 0.0, "en")


# The tab and the service


@pytest.fixture
def service(tmp_path: Path) -> Iterator[JobService]:
    with resting_service(tmp_path) as running:
        yield running


@pytest.fixture
def tab(service: JobService) -> QueueTab:
    with gr.Blocks(), gr.Tabs() as tabs, gr.Tab("Queue") as own:
        return QueueTab(
            service, Followers(service), Posters(), tabs, own, gr.Radio(), "en", build_i18n(), card=False
        )  # fmt: skip


def test_the_arrows_change_the_order_in_which_jobs_run(service: JobService, tab: QueueTab, tmp_path: Path) -> None:
    one, two, three = (submit(service, tmp_path, f"waves {i}") for i in range(3))
    html = tab.act(None, {}, "en", chosen("up", three))[2]
    assert ids(html) == [one, three, two]
    html = tab.act(None, {}, "en", chosen("down", one))[2]
    assert ids(html) == [three, one, two]
    assert [service.status(found).position for found in (three, one, two)] == [1, 2, 3]


def test_a_job_goes_to_the_top_or_where_it_is_dropped(service: JobService, tab: QueueTab, tmp_path: Path) -> None:
    one, two, three = (submit(service, tmp_path, f"waves {i}") for i in range(3))
    assert ids(tab.act(None, {}, "en", chosen("top", three))[2]) == [three, one, two]
    html = tab.act(None, {}, "en", chosen("place", three, place=2))[2]
    assert ids(html) == [one, three, two]
    assert re.findall(r'draggable="true" data-job="([^"]*)" data-place="(\d)"', html) == [
        (one, "1"), (three, "2"), (two, "3")
    ]  # fmt: skip
    for wrong in (0, 4, "1", None, 1.5, [1]):
        assert ids(tab.act(None, {}, "en", chosen("place", three, place=wrong))[2]) == [one, three, two]


def test_a_finished_row_plays_leads_to_the_gallery_and_says_what_the_page_says(
    service: JobService, tab: QueueTab, tmp_path: Path
) -> None:
    job_id = finish(service, tmp_path)
    html = tab.look(None, QueueShown(), {}, "en")[1]
    assert re.findall(r'data-act="open" data-id="([^"]*)"', html) == [job_id, job_id]
    assert f'{job_id}/video.mp4"' in html
    assert f"took {clock(tab.followers.view(job_id).seconds)}" in html
    assert f"took {clock(4.0)}" in html
    assert float(re.findall(r'data-ended="([\d.]+)"', html)[0]) > 0


def test_a_running_row_shows_the_live_preview(service: JobService, tab: QueueTab, tmp_path: Path) -> None:
    job_id = submit(service, tmp_path)
    service._board.change(job_id, "running", StateChanged("running"), expected=("queued",))
    service._board.record(job_id).append(PreviewReady(3, "preview.webp"))
    assert f"{job_id}/preview.webp?v=3" in tab.look(None, QueueShown(), {}, "en")[1]


def test_who_waits_sees_that_somebody_elses_job_runs_and_nothing_of_it(
    service: JobService, tab: QueueTab, tmp_path: Path
) -> None:
    said = "somebody else"
    theirs = submit(service, tmp_path, "a secret", owner="ann")
    submit(service, tmp_path, "mine", owner="bob")
    bob = SimpleNamespace(username="bob", client=None)
    assert said not in tab.look(bob, QueueShown(), {}, "en")[2]
    service._board.change(theirs, "running", StateChanged("running"), expected=("queued",))
    _, html, summary, *_ = tab.look(bob, QueueShown(), {}, "en")
    assert said in summary
    for told in ("ann", theirs, "secret"):
        assert told not in html + summary
    for who in ("ann", "admin", "guest"):  # who sees it needs no such words
        assert said not in tab.look(SimpleNamespace(username=who, client=None), QueueShown(), {}, "en")[2]


def test_only_a_card_can_be_lent(tab: QueueTab) -> None:
    assert tab.lend.visible is False


def test_pause_resume_cancel_and_retry(service: JobService, tab: QueueTab, tmp_path: Path) -> None:
    job_id = submit(service, tmp_path)
    for act, state in (("pause", "paused"), ("resume", "queued"), ("cancel", "cancelled")):
        tab.act(None, {}, "en", chosen(act, job_id))
        assert service.status(job_id).state == state
    tab.act(None, {}, "en", chosen("retry", job_id))
    (again,) = service.jobs(states=("queued",))
    assert again.parent == job_id


def test_a_browser_cannot_ask_for_anything_else(service: JobService, tab: QueueTab, tmp_path: Path) -> None:
    job_id = submit(service, tmp_path)
    for act, of in (("delete", job_id), ("close", job_id), (None, None), ("cancel", ["x"]), ("up", "nobody")):
        tab.act(None, {}, "en", chosen(act, of))
    refused = tab.act(None, {}, "en", chosen("cancel", "../../x"))
    assert 'role="alert"' in refused[1]
    assert [found.state for found in service.jobs()] == ["queued"]


def test_a_look_sends_only_what_is_new(service: JobService, tab: QueueTab, tmp_path: Path) -> None:
    first = tab.look(None, QueueShown(), {}, "en")
    submit(service, tmp_path)
    second = tab.look(None, first[0], {}, "en")
    assert not is_skip(second[1])
    (folder,) = [found.folder for found in service.jobs()]
    wait_until((folder / "input-small.webp").exists)
    third = tab.look(None, second[0], {}, "en")
    assert "input-small.webp" in third[1]
    assert all(is_skip(update) for update in tab.look(None, third[0], {}, "en"))
    assert "等待中" in tab.look(None, third[0], {}, "zh-CN")[1]


def test_the_switch_and_the_loan_hold_the_queue(service: JobService, tab: QueueTab, tmp_path: Path) -> None:
    job_id = submit(service, tmp_path)
    service.pause(job_id)
    shown = tab.look(None, QueueShown(), {}, "en")[0]
    assert shown.paused
    assert "paused" in shown.summary
    tab.lend_card(None, {}, "en")
    assert not service.queue_paused
    assert service.status(job_id).state == "paused"  # by hand, and so it stays
    service.cancel(job_id)
    held = tab.hold(None, True, {}, "en")
    assert service.queue_paused
    assert held[4] is True


def test_the_last_that_ended_stay_in_sight(service: JobService, tab: QueueTab, tmp_path: Path) -> None:
    for number in range(7):
        finish(service, tmp_path, f"waves {number}")
    html = tab.look(None, QueueShown(), {}, "en")[1]
    assert html.count('class="i2v-job done"') == 5
    assert "waves 6" in html
    assert "waves 1" not in html


def test_a_look_that_crosses_an_action_does_not_stay(service: JobService, tab: QueueTab, tmp_path: Path) -> None:
    """The look began before the action and its answer comes after: the next look shows what is so."""
    job_id = submit(service, tmp_path)
    before = tab.look(None, QueueShown(), {}, "en")
    tab.act(None, {}, "en", chosen("pause", job_id))
    after = tab.look(None, before[0], {}, "en")
    assert 'class="i2v-job paused"' in after[1]


def test_what_a_running_job_was_asked_stands_there_until_it_is_done(
    service: JobService, tab: QueueTab, tmp_path: Path
) -> None:
    job_id = submit(service, tmp_path)
    service._board.change(job_id, "running", expected=("queued",))
    wishes, _, html, *_ = tab.act(None, {}, "en", chosen("pause", job_id))
    assert wishes == {job_id: "pause"}
    assert "will be paused after this step" in html
    service._board.change(job_id, "paused", expected=("running",))
    assert "will be paused" not in tab.look(None, QueueShown(), wishes, "en")[1]
    assert tab.act(None, wishes, "en", chosen("resume", job_id))[0] == {}
