"""What the page answers to the form as it is: the plan, the notes, and which answer comes too late."""

from __future__ import annotations

from collections.abc import Iterator
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from jobs_support import SCRIPTED, settings_in
from machines import card
from page_support import SHAPE, FixedProbe, scripted_service, uploaded_picture

from i2v.jobs.asked.plans import Plans
from i2v.jobs.asked.prepare import Resolved, resolve
from i2v.jobs.service import JobService
from i2v.messages import UserError
from i2v.ui.create import answers, form
from i2v.ui.create.hints import hints
from i2v.ui.page import _Page


@pytest.fixture
def service(tmp_path: Path) -> Iterator[JobService]:
    with scripted_service(tmp_path) as running:
        yield running


def test_a_prompt_that_changes_is_not_planned_for(service: JobService, tmp_path: Path) -> None:
    page, visitor, planned = _Page(service, *settings_in(tmp_path)), SimpleNamespace(session_hash="a page"), []
    form_now = dict.fromkeys(form.FIELDS) | {"model": "nano", "width": 2048, "height": 2048, "frames": 16, "steps": 25}

    def answer(page: str | None, locale: str, resolved: Any, *, exactly: bool) -> tuple[list[Any], bool]:
        planned.append(page)
        return [gr.skip()] * 3, True

    page.answers._answer = answer
    first = page.answers.at_once(visitor, "en", *form_now.values(), *SHAPE)
    hinted = page.answers.hints_only(visitor, "en", *(form_now | {"prompt": "rain"}).values())
    assert planned == ["a page"]
    assert "larger than usual" not in first[4] + hinted  # it fits
    page.answers.hints_only(visitor, "en", *(form_now | {"steps": 30}).values())  # its answer is still to come
    assert planned == ["a page", None]


def test_the_policy_on_the_page_reaches_the_plan_and_the_job(tmp_path: Path) -> None:
    """Where weights come whole, on a card too small for them: the card says what is given up, and the job is run so."""
    settings, _ = settings_in(tmp_path, cpu=False, preset="12gb")
    probe = FixedProbe(card(3.3, 6))
    job = dict.fromkeys(form.FIELDS) | {
        "prompt": "waves",
        "model": "i2vgen-xl",
        "width": 512,
        "height": 512,
        "frames": 16,
        "steps": 50,
        **dict.fromkeys(form.AUTO_FIELDS, "auto"),
        "offload": "staged",
    }
    upload = uploaded_picture(tmp_path, "policy")
    plans = Plans(tmp_path / "planner")
    with JobService(settings, probe, worker_command=SCRIPTED, plans=plans) as service:
        page = _Page(service, settings, probe)
        for chosen, verdict, loss in (("auto", "Won't fit", "full quality"), ("lossless", "Won't fit", "full quality")):
            shown = page.answers.at_once(None, "en", *(job | {"policy": chosen}).values(), *SHAPE)[0]
            assert verdict in unescape(shown)
            assert f"· {loss}</div>" in shown
        shown = page.answers.at_once(None, "en", *(job | {"policy": "balanced"}).values(), *SHAPE)[0]
        assert "Won't fit" not in unescape(shown)
        assert "· reduced quality</div>" in shown
        assert "eight bits" in shown
        page._generate(None, "en", "", {"path": str(upload)}, None, None, *(job | {"policy": "balanced"}).values())
        (status,) = service.jobs()
        service.cancel(status.id)
        assert (status.request.options.policy, status.plan.lossless) == ("balanced", False)
        restored = dict(zip(form.FIELDS, form.form_values(status.request), strict=True))
        assert (restored["policy"], restored["offload"]) == ("balanced", "staged")


def test_an_answer_to_an_older_form_does_not_cover_the_newer_one(service: JobService, tmp_path: Path) -> None:
    """A plan by dry runs takes seconds, in which the form becomes another one."""
    page, visitor = _Page(service, *settings_in(tmp_path)), SimpleNamespace(session_hash="a page")
    older = dict.fromkeys(form.FIELDS) | {"model": "nano", "width": 512, "height": 512, "frames": 16, "steps": 25}
    older |= {"fps": 8, **dict.fromkeys(form.AUTO_FIELDS, "auto")}
    newer = older | {"width": 1344, "height": 1344}
    plan_of = service.plan_of

    def plan_slowly(resolved: Resolved, *, exactly: bool, **more: Any) -> Any:
        if exactly and resolved.request.width == 512:
            page.answers.at_once(visitor, "en", *newer.values(), *SHAPE)
        return plan_of(resolved, exactly=False, **more)

    service.plan_of = plan_slowly
    assert "Nothing is planned here" in page.answers.at_once(visitor, "en", *older.values(), *SHAPE)[0]
    assert page.answers.exactly(visitor, "en", *older.values()) == [gr.skip()] * 3
    assert page.answers.exactly(visitor, "en", *newer.values()) != [gr.skip()] * 3
    assert page.answers.exactly(visitor, "zh-CN", *newer.values()) == [gr.skip()] * 3  # another language since
    other = SimpleNamespace(session_hash="another page")
    assert page.answers.exactly(other, "en", *newer.values()) != [gr.skip()] * 3


def test_a_size_beyond_the_usual_is_warned_of_only_where_it_may_not_fit(service: JobService, tmp_path: Path) -> None:
    settings, _ = settings_in(tmp_path)
    asked = {"model": "nano", "width": 2048, "height": 2048, "frames": 16, "steps": 99}
    resolved = resolve(asked, settings, to_run=False)
    may_not, fits = (unescape(hints(resolved, "en", fits=fits)) for fits in (False, True))
    assert "larger than usual" in may_not
    assert "larger than usual" not in fits
    assert "10 to 50 steps" in fits


def test_only_so_many_pages_newest_questions_are_kept() -> None:
    newest = answers.Newest()
    for number in range(answers.MOST_PAGES + 1):
        newest.ask(f"{number}", (number,))
    assert len(newest._asked) == answers.MOST_PAGES
    assert not newest.is_late("0", (7,))  # long forgotten
    assert newest.is_late("1", (7,))


def test_the_page_says_what_to_know_of_a_model_whatever_else_is_wrong(service: JobService, tmp_path: Path) -> None:
    page = _Page(service, *settings_in(tmp_path))
    wrong = UserError("request.prompt_needed")
    assert "moves your photograph" in page.answers._model_note("nano", "en", wrong)
    assert "downloaded" in page.answers._model_note("i2vgen-xl", "en", wrong)
