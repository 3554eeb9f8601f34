"""What the model will make of the sentence: in a line below it how the picture moves and what is not understood; and
over the photograph where it sees what is to move, which can be painted over."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.events import Dependency

from i2v.jobs.process.dry_child import Superseded
from i2v.messages import UserError
from i2v.ui.create.choices import CHOICES
from i2v.ui.create.form import Form, request_values
from i2v.ui.shown import panels
from i2v.ui.tabs import LANGUAGE, QUIET
from i2v.ui.texts import known

if TYPE_CHECKING:
    from i2v.jobs.service import JobService

FOLLOWED = ("prompt", "model", "region")
"""The fields that change what is said, as far as the form has them."""


def connect_sentence(form: Form, service: JobService, language: gr.Radio, translated: Dependency) -> None:
    """Let the line follow the form and the reader's language; of many changes in a row the last one counts."""

    def told(request: gr.Request | None, locale: str, *raw: Any) -> Any:
        return sentence_line(service, request and request.session_hash, known(locale), *raw)

    answer: dict[str, Any] = {"fn": told, "inputs": [language, *form.inputs], "outputs": form.said, **QUIET}
    answer |= {"preprocess": False, "trigger_mode": "always_last", "js": f"(_, ...form) => [{LANGUAGE}, ...form]"}
    changes = [form.fields[name].change for name in FOLLOWED if name in form.fields]
    gr.on(changes, **answer)
    translated.then(**answer)

    def found(request: gr.Request | None, thumbnail: str, *raw: Any) -> Any:
        return proposed(service, request and request.session_hash, thumbnail, *raw)

    shown: dict[str, Any] = {"inputs": [form.cut.thumbnail, *form.inputs], "outputs": form.brush.proposal, **QUIET}
    gr.on([*changes, form.cut.thumbnail.change], found, **shown, preprocess=False, trigger_mode="always_last")


def proposed(service: JobService, page: str | None, thumbnail: str, *raw: Any) -> Any:
    """Where in the photograph the model sees what the sentence asks for, as a region; "" where it does not say. No
    change where the page has asked anew. `thumbnail`: as `Cut` has it; `raw`: the form's values in the order of
    FIELDS."""
    if not thumbnail:
        return ""
    try:
        return service.finds(_values(raw), base64.b64decode(thumbnail.partition(",")[2]), page) or ""
    except Superseded:
        return gr.skip()
    except UserError:
        return ""


def sentence_line(service: JobService, page: str | None, locale: str, *raw: Any) -> Any:
    """The line as HTML, empty where there is nothing to say; no change where the page has asked anew. `raw`: the form's
    values in the order of FIELDS."""
    try:
        said = service.said(_values(raw), page)
    except Superseded:
        return gr.skip()
    except UserError:  # the plan card says what is wrong
        return ""
    return panels.note(" ".join(text.render(locale) for text in said), calm=True) if said else ""


def _values(raw: Sequence[Any]) -> dict[str, Any]:
    """The form's values without what has no part in how a sentence is read."""
    return {name: value for name, value in request_values(raw, None).items() if name not in CHOICES}
