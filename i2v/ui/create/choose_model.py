"""Choosing a model by what it would do on this machine: a list that opens below the field, and a model to take in place
of the one that the page began with. Both do to the form what choosing in the field does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.events import Dependency

from i2v.messages import UserError
from i2v.models.catalogue import list_models
from i2v.ui.api import unexpected
from i2v.ui.create.model_cards import model_cards
from i2v.ui.create.model_list import CardsShown
from i2v.ui.create.numbers import KeptNumbers, key_of
from i2v.ui.gate.own_downloads import OwnDownloads
from i2v.ui.shown import panels
from i2v.ui.shown.download import Coming, under_way
from i2v.ui.tabs import LANGUAGE, QUIET
from i2v.ui.texts import known

if TYPE_CHECKING:
    from i2v.jobs.service import JobService
    from i2v.settings.settings import Settings
    from i2v.ui.create.form import Form


def connect_models(
    form: Form, service: JobService, settings: Settings, language: gr.Radio, ended: gr.Textbox, translated: Dependency
) -> Dependency:
    """Let the list be worked out when it is opened, and anew while it may be seen: for another model, another language,
    and when a job has `ended`. Returns the event after which another model stands in the form, for what follows."""
    models, field, preset = form.models, form.fields["model"], form.fields["preset"]

    def shown(locale: str, chosen: str, opened: bool = True) -> list[Any]:
        if not opened:
            return [gr.skip()] * 4
        now = _cards(service, chosen, known(locale))
        return [now.cards, opened, now, gr.Timer(active=True)]

    def get(request: gr.Request | None, locale: str, chosen: str, event: gr.EventData) -> list[Any]:
        told = ""
        try:
            fetched(OwnDownloads.of(service, request), getattr(event, "id", None), settings)
        except UserError as error:
            told = panels.problem(error.message, known(locale))
        except Exception as error:
            told = panels.problem(unexpected(error, settings).message, known(locale))
        return [told, *shown(locale, chosen)]

    def look(locale: str, chosen: str, before: CardsShown) -> list[Any]:
        if not before.live and _standing(under_way(service)) == before.coming:
            return [gr.skip()] * 5  # most looks, and they cost nothing
        now = _cards(service, chosen, known(locale))
        over = before.live - now.live
        return [
            gr.skip() if now.cards == before.cards else now.cards,
            gr.skip(),
            gr.skip() if now == before else now,
            gr.skip(),
            f"models {sorted(one.name for one in list_models(settings) if one.present)}" if over else gr.skip(),
        ]

    def chosen(kept: Any, at: str, under: str, event: gr.EventData) -> list[Any]:
        return taken(kept, at, under, getattr(event, "act", None), getattr(event, "id", None), settings)

    drawn = [models.cards, models.opened, models.shown, models.timer]
    drawing: dict[str, Any] = {"outputs": drawn, **QUIET}
    spoken = f"(_, ...rest) => [{LANGUAGE}, ...rest]"
    models.opener.click(shown, [language, field], js=spoken, **drawing)
    again = {"fn": shown, "inputs": [language, field, models.opened], **drawing}
    models.cards.submit(get, [language, field], [models.told, *drawn], js=spoken, **QUIET)
    models.timer.tick(look, [language, field, models.shown], [*drawn, ended], **QUIET)
    gr.on([field.change, ended.change], js=spoken, **again)
    translated.then(**again)
    return gr.on(
        [models.cards.click, form.model_note.click],
        chosen,
        [form.kept_numbers, field, preset],
        [form.kept_numbers, field],
        **QUIET,
    )


def fetched(own: OwnDownloads, name: Any, settings: Settings) -> None:
    """Have a model of the list downloaded; nothing for a name that is none of it. Raises UserError."""
    if name in {one.name for one in list_models(settings)}:
        own.add(name)


def _cards(service: JobService, chosen: str, locale: str) -> CardsShown:
    """The cards as they are now, with how far downloads are, and which there are."""
    coming = under_way(service)
    return CardsShown(_standing(coming), model_cards(service.outlooks(), chosen, locale, coming))


def _standing(coming: Sequence[Coming]) -> frozenset[tuple[str, str]]:
    """How each download stands, by the hub's id of its model."""
    return frozenset((one.download.hub_id, one.download.state) for one in coming)


def taken(kept: Any, before: str, preset: str, act: Any, name: Any, settings: Settings) -> list[Any]:
    """The browser's numbers by model and preset, and the model that was chosen; nothing for a name that is none of the
    list's. The numbers that stand in the form are those of the model `before`, as focusing the field says."""
    if act != "choose" or name not in {one.name for one in list_models(settings)}:
        return [gr.skip(), gr.skip()]
    return [{**KeptNumbers.of(kept).kept(), "at": key_of(before, preset)}, name]
