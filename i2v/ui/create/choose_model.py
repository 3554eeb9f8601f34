"""Choosing a model by what it would do on this machine: a list that opens below the field, and a model to take in place
of the one that the page began with. Both do to the form what choosing in the field does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.events import Dependency

from i2v.models.catalogue import list_models
from i2v.ui.create.model_cards import model_cards
from i2v.ui.create.numbers import KeptNumbers, key_of
from i2v.ui.tabs import LANGUAGE, QUIET
from i2v.ui.texts import known

if TYPE_CHECKING:
    from i2v.jobs.service import JobService
    from i2v.settings.settings import Settings
    from i2v.ui.create.form import Form


def connect_models(
    form: Form, service: JobService, settings: Settings, language: gr.Radio, ended: gr.State, translated: Dependency
) -> Dependency:
    """Let the list be worked out when it is opened, and anew while it may be seen: for another model, another language,
    and when a job has `ended`. Returns the event after which another model stands in the form, for what follows."""
    models, field, preset = form.models, form.fields["model"], form.fields["preset"]

    def shown(locale: str, chosen: str, opened: bool = True) -> list[Any]:
        return [model_cards(service.outlooks(), chosen, known(locale)) if opened else gr.skip(), opened]

    def chosen(kept: Any, at: str, under: str, event: gr.EventData) -> list[Any]:
        return taken(kept, at, under, getattr(event, "act", None), getattr(event, "id", None), settings)

    look: dict[str, Any] = {"outputs": [models.cards, models.opened], **QUIET}
    models.opener.click(shown, [language, field], js=f"(_, model) => [{LANGUAGE}, model]", **look)
    again = {"fn": shown, "inputs": [language, field, models.opened], **look}
    gr.on([field.change, ended.change], js=f"(_, ...rest) => [{LANGUAGE}, ...rest]", **again)
    translated.then(**again)
    return gr.on(
        [models.cards.click, form.model_note.click],
        chosen,
        [form.kept_numbers, field, preset],
        [form.kept_numbers, field],
        **QUIET,
    )


def taken(kept: Any, before: str, preset: str, act: Any, name: Any, settings: Settings) -> list[Any]:
    """The browser's numbers by model and preset, and the model that was chosen; nothing for a name that is none of the
    list's. The numbers that stand in the form are those of the model `before`, as focusing the field says."""
    if act != "choose" or name not in {one.name for one in list_models(settings)}:
        return [gr.skip(), gr.skip()]
    return [{**KeptNumbers.of(kept).kept(), "at": key_of(before, preset)}, name]
