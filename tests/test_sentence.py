"""The line below the sentence: what the model will make of it, in the reader's language."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest
from jobs_support import settings_in
from page_support import scripted_service

from i2v.jobs.asked.plans import Plans
from i2v.jobs.process.dry_child import Superseded
from i2v.messages import UserError, message
from i2v.models.entry import ModelEntry
from i2v.ui.create.form import FIELDS
from i2v.ui.create.sentence import sentence_line
from i2v.ui.page import _Page
from tests.planning.support import job

SAID = (message("nano.motion", moves=message("nano.nothing_asked").to_json()),)
NANO = ModelEntry("nano", "nano", "Nano", Path("/nowhere"), None, True, 0, None)


class Says:
    """A service that says this, and keeps what it was asked."""

    def __init__(self, answer: object) -> None:
        self.answer = answer

    def said(self, values: dict[str, object], page: str | None) -> object:
        self.asked = values, page
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def line(answer: object, locale: str = "en") -> object:
    return sentence_line(Says(answer), "page", locale, *["zoom in", *[""] * (len(FIELDS) - 1)])


def test_what_is_said_stands_in_one_calm_line_and_is_escaped() -> None:
    assert "Motion: slow move in." in line(SAID)
    assert "calm" in line(SAID)
    assert "运动：缓慢前移。" in line(SAID, "zh-CN")
    quoted = (*SAID, message("nano.not_understood", clauses="“<b>”"))
    assert "“&lt;b&gt;”" in line(quoted)
    assert "<b>" not in line(quoted)


def test_nothing_to_say_is_no_line_and_an_overtaken_answer_changes_nothing() -> None:
    assert line(()) == ""
    assert line(UserError("family.task", model="", task="", tasks="")) == ""
    assert line(Superseded()) == gr.skip()


def test_the_page_and_the_forms_values_are_asked_with() -> None:
    service = Says(())
    sentence_line(service, "page", "en", *["zoom in", *[""] * (len(FIELDS) - 1)])
    assert service.asked == ({"prompt": "zoom in"}, "page")


def test_it_follows_the_sentence_the_model_and_the_language(tmp_path: Path) -> None:
    with scripted_service(tmp_path) as service:
        page = _Page(service, *settings_in(tmp_path))
        own = page.form.said._id
        calls = [call for call in page.blocks.config["dependencies"] if call["outputs"] == [own]]
        followed = {tuple(target) for call in calls for target in call["targets"]}
    fields = {(page.form.fields[name]._id, "change") for name in ("prompt", "model")}
    assert fields <= followed
    assert len(calls) == 2  # the other one comes after another language is


# --- which models are asked ---


class Child:
    """A planning child that says this of every sentence."""

    def __init__(self, answer: object) -> None:
        self.answer = answer
        self.asked: list[str] = []

    def said(self, family: str, folder: Path, request: object, asker: object) -> object:
        self.asked.append(family)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    ("entry", "prompt", "asked"),
    [
        (NANO, "zoom in", ["nano"]),
        (NANO, "", []),
        (replace(NANO, family="i2vgen_xl"), "zoom in", []),
        (replace(NANO, folder=None), "zoom in", []),
    ],
    ids=["nano", "no sentence", "a family that does not tell", "not on this computer"],
)
def test_only_a_model_that_tells_is_asked(entry: ModelEntry, prompt: str, asked: list[str]) -> None:
    plans = Plans(None)
    plans._child = Child(SAID)
    assert plans.said(entry, replace(job(), prompt=prompt)) == (SAID if asked else ())
    assert plans._child.asked == asked


def test_where_it_can_not_be_read_nothing_is_said() -> None:
    plans = Plans(None)
    plans._child = Child(UserError("planning.not_told", error="broken"))
    assert plans.said(NANO, replace(job(), prompt="zoom in")) == ()
