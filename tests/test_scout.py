"""The scout without a browser: what is sent out, what the board says of it, what a choice does."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobs_support import settings_in, small_picture, values
from tabs_support import chosen, is_skip, resting_service

from i2v.jobs.service import JobService
from i2v.messages import UserError
from i2v.ui.create.form import FIELDS, SEED_LIMIT
from i2v.ui.create.scout import Scout, Scouts, first_third
from i2v.ui.gate.own import OwnJobs
from i2v.ui.page import _Page
from i2v.ui.shown.follow import Followers
from i2v.ui.texts import build_i18n


@dataclass
class Panel:
    """A panel on a queue that rests, so that scouts wait until a test moves them."""

    service: JobService
    scout: Scout
    folder: Path

    def send(self, count: Any = 3, **more: Any) -> list[Any]:
        picture = small_picture(self.folder / "uploads")
        form = values("waves", **more)
        return self.scout.sent(
            None, "en", count, "", {"path": str(picture)}, None, None, *(form.get(name) for name in FIELDS)
        )


@pytest.fixture
def panel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Panel]:
    (tmp_path / "uploads").mkdir()
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    monkeypatch.setattr("i2v.ui.create.scout.browser_secret", lambda: "secret")
    with resting_service(tmp_path, max_queue_per_owner=4) as service:
        with gr.Blocks():
            scout = Scout(service, Followers(service), settings_in(tmp_path)[0], build_i18n())
        yield Panel(service, scout, tmp_path)


@given(st.integers(1, 10_000))
def test_a_third_is_a_third_and_at_least_a_step(steps: int) -> None:
    assert first_third(steps) == math.ceil(steps / 3)
    assert 1 <= first_third(steps) <= steps


@given(st.recursive(st.none() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)))
def test_whatever_a_browser_kept_is_read(kept: Any) -> None:
    for given_ in (kept, {"ids": ["a", kept], "picked": ["a", "z"]}):
        scouts = Scouts.of(given_)
        assert scouts.picked <= set(scouts.ids)
        assert Scouts.of(json.loads(json.dumps(scouts.kept()))) == scouts


@pytest.mark.parametrize(("steps", "stop_at"), [(7, 3), ("", 17)])
def test_scouts_wait_with_a_seed_each_and_stop_after_a_third(panel: Panel, steps: Any, stop_at: int) -> None:
    """Left empty, the steps are the family's: 50."""
    kept, told, html, *_ = panel.send(3, steps=steps, seed="5")
    ids = kept["ids"]
    jobs = [panel.service.status(one) for one in ids]
    assert (told, len(ids), len({job.request.seed for job in jobs})) == ("", 3, 3)
    assert {job.state for job in jobs} == {"queued"}
    assert {(job.request.prompt, job.request.num_frames) for job in jobs} == {("waves", 2)}
    assert all(0 <= job.request.seed < SEED_LIMIT for job in jobs)
    planned = [panel.service._board.store.get(one).planned for one in ids]
    assert planned == [{"stop_at": stop_at}] * 3
    assert html.count("<li") == 3
    assert [html.index(f"Seed {job.request.seed}") for job in jobs] == sorted(
        html.index(f"Seed {job.request.seed}") for job in jobs
    )


def test_where_not_all_can_be_sent_those_that_were_are_shown_and_why(panel: Panel) -> None:
    kept, told, html, *_ = panel.send(6)
    assert len(kept["ids"]) == html.count("<li") == 4
    assert 'role="alert"' in told


@pytest.mark.parametrize("count", [1, 7, None, "x", 10**9])
def test_another_number_of_scouts_is_refused(panel: Panel, count: Any) -> None:
    kept, told, *_ = panel.send(count)
    assert (kept["ids"], panel.service.jobs()) == ([], [])
    assert 'role="alert"' in told


def test_only_what_is_laid_down_can_go_on_and_the_others_are_dropped(panel: Panel) -> None:
    kept, _, html, _, send, drop, timer, status = panel.send(3)
    first, second, third = kept["ids"]
    assert html.count(" disabled") == 3
    assert html.count("the queue is paused") == 3
    assert "Scouts at work: 3 · the queue is paused" in status
    assert (send["interactive"], drop["interactive"], timer["active"]) == (False, True, True)
    for one in kept["ids"]:
        assert panel.service.pause(one)
    assert is_skip(panel.scout.look(None, kept, html, "en", first)[5])  # the page shows a job
    _, html, _, _, timer, status = panel.scout.look(None, kept, html, "en")
    assert "choose one" in status
    assert (html.count(" disabled"), html.count('data-act="go_on"'), timer["active"]) == (0, 3, False)
    assert panel.scout.go_on(None, second) == second
    kept = {**kept, "picked": [second]}
    assert panel.service.status(second).state == "queued"
    assert panel.service._board.store.get(second).planned is None
    panel.scout.go_on(None, second)  # pressed twice
    left, _, html, send, drop, timer, status = panel.scout.dropped(None, kept, "en")
    assert left == {"ids": [second], "picked": [second]}
    assert [panel.service.status(one).state for one in (first, second, third)] == ["cancelled", "queued", "cancelled"]
    assert (html.count("<li"), 'data-act="show"' in html) == (1, True)
    assert (send["interactive"], drop["interactive"], timer["active"]) == (True, False, True)
    assert all(is_skip(update) for update in panel.scout.look(None, left, html, "en"))


def test_a_board_says_nothing_of_jobs_that_are_gone_and_speaks_the_readers_language(panel: Panel) -> None:
    kept = panel.send(2)[0]
    html = panel.scout.look(None, {"ids": [*kept["ids"], "nothing"]}, None, "zh-CN")[1]
    assert html.count("<li") == 2
    assert "用这个继续" in unescape(html)
    assert panel.scout.found(None, {"ids": ["nothing"]}, "en")[1] == ""


def test_a_page_that_opens_does_not_take_a_scout_for_its_job(panel: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("i2v.ui.page.browser_secret", lambda: "secret")
    settings, probe = settings_in(panel.folder)
    page = _Page(panel.service, settings, probe)
    ids = panel.send(2)[0]["ids"]
    own = OwnJobs.of(panel.service, None)
    assert page._to_show(own, "") == ids[-1]
    assert page._to_show(own, "", ids) == ""


def test_a_choice_makes_the_page_follow_and_only_of_what_was_sent(
    panel: Panel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("i2v.ui.page.browser_secret", lambda: "secret")
    settings, probe = settings_in(panel.folder)
    page = _Page(panel.service, settings, probe)
    events = [event.fn for event in page.blocks.fns.values()]
    act = next(one for one in events if getattr(one, "__qualname__", "") == "Scout.connect.<locals>.act")
    kept = panel.send(2)[0]
    one, other = kept["ids"]
    panel.service.pause(one)
    panel.service.pause(other)
    for wrong in (("go_on", "nothing"), ("cancel", one), (None, None)):
        assert all(is_skip(update) for update in act(None, kept, "en", chosen(*wrong)))
    assert all(is_skip(update) for update in act(None, {"ids": [other]}, "en", chosen("go_on", one)))
    assert panel.service.status(one).state == "paused"
    updates = act(None, kept, "en", chosen("go_on", one))
    assert updates[0] == {"ids": [one, other], "picked": [one]}
    assert (updates[6].job_id, updates[-1]) == (one, one)
    assert panel.service.status(one).state == "queued"


def test_a_scout_is_another_persons_to_nobody(panel: Panel) -> None:
    """Whatever ids a browser hands in, only its owner's jobs are looked at, gone on with and dropped."""
    kept = panel.send(2)[0]
    panel.service.pause(kept["ids"][0])
    stranger = SimpleNamespace(username="ann", client=SimpleNamespace(host="192.0.2.7"), headers={})
    assert panel.scout.look(stranger, kept, None, "en")[0] == ""
    with pytest.raises(UserError):
        panel.scout.go_on(stranger, kept["ids"][0])
    panel.scout.dropped(stranger, kept, "en")
    assert {panel.service.status(one).state for one in kept["ids"]} <= {"paused", "queued", "running"}
