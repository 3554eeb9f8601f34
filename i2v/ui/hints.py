"""What to know of the numbers in the form before pressing Generate: where they leave what suits model and preset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr

from i2v.families import SPECS
from i2v.jobs.advice import request_notes
from i2v.jobs.prepare import build_request
from i2v.messages import UserError
from i2v.models.catalogue import find_model
from i2v.settings import Settings
from i2v.ui import panels
from i2v.ui.form import Form, request_values
from i2v.ui.tabs import LANGUAGE, QUIET
from i2v.ui.texts import known

if TYPE_CHECKING:
    from collections.abc import Sequence

HINTED_BY = ("model", "width", "height", "frames", "steps", "guidance", "preset")


def connect_hints(form: Form, settings: Settings, language: gr.Radio, page: gr.Blocks) -> None:
    """Let the hints follow the numbers."""

    def hinted(locale: str, *raw: Any) -> str:
        return hints(raw, settings, known(locale))

    changes = [page.load, language.change, *(form.fields[name].change for name in HINTED_BY)]
    late = {**QUIET, "preprocess": False, "trigger_mode": "always_last"}
    by_language = f"(_, ...rest) => [{LANGUAGE}, ...rest]"
    gr.on(changes, hinted, [language, *form.inputs], form.hints, js=by_language, **late)


def hints(raw: Sequence[Any], settings: Settings, locale: str) -> str:
    """The notes on the form's values as HTML; nothing for values that are no request yet: the plan card says why."""
    try:
        request = build_request(request_values(raw), settings, to_run=False)
    except UserError:
        return ""
    under = settings.with_overrides(request.options)
    spec = SPECS[find_model(request.model, settings).family]
    return "".join(panels.note(note.render(locale)) for note in request_notes(request, under, spec))
