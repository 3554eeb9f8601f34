"""A model that the list does not have is fetched too: by its id on the hub, or by the address of its page there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import gradio as gr

from i2v.messages import Message, UserError, message
from i2v.ui.api import unexpected
from i2v.ui.gate.own_downloads import OwnDownloads
from i2v.ui.shown import panels
from i2v.ui.system.model_panel import ModelPanel
from i2v.ui.tabs import LANGUAGE, QUIET
from i2v.ui.texts import known, text

if TYPE_CHECKING:
    from i2v.jobs.service import JobService
    from i2v.settings.settings import Settings

_AT_ONCE = 2  # people who may ask the hub at the same time


class ModelById:
    """The field, its button and what is told, laid out where it is made, below the list of `models`."""

    def __init__(
        self, service: JobService, settings: Settings, models: ModelPanel, language: gr.Radio, i18n: gr.I18n
    ) -> None:
        self.service, self.settings = service, settings
        with gr.Row(elem_id="i2v-model-by-id"):
            self.field = gr.Textbox(
                label=i18n("ui.model_by_id"), info=i18n("ui.model_by_id_help"), max_lines=1, min_width=160,
                placeholder=i18n("ui.model_by_id_placeholder"), elem_id="i2v-model-id",
            )  # fmt: skip
            button = gr.Button(i18n("ui.model_download"), scale=0, min_width=110, elem_id="i2v-model-id-fetch")
        self.told = gr.HTML("", elem_id="i2v-model-id-told")
        # In the queue, since only from there can an answer come in parts.
        parts: dict[str, Any] = {**QUIET, "queue": True, "concurrency_limit": _AT_ONCE}
        asked = gr.on(
            [button.click, self.field.submit],
            self.fetch,
            [language, self.field],
            [self.told, self.field],
            js=f"(_, typed) => [{LANGUAGE}, typed]",
            **parts,
        )
        asked.then(**models.looking)

    def fetch(self, request: gr.Request | None, locale: str, typed: Any) -> Iterator[list[Any]]:
        """What is told while the hub is asked what this is, and then; the field is emptied once its model comes."""
        locale = known(locale)
        yield [panels.note(text("lora_looking", locale), calm=True), gr.skip()]
        try:
            said = self._ask(OwnDownloads.of(self.service, request), model_named(typed))
        except UserError as error:
            yield [panels.problem(error.message, locale), gr.skip()]
        except Exception as error:
            yield [panels.problem(unexpected(error, self.settings).message, locale), gr.skip()]
        else:
            yield [panels.note(said.render(locale), calm=True), ""]

    def _ask(self, downloads: OwnDownloads, name: str) -> Message:
        """Have the model downloaded, also one that was laid down. Raises UserError."""
        one = downloads.add(name)
        if one.state == "done":
            return message("downloads.finished", model=one.title)
        if one.state == "paused":
            downloads.resume(one.id)
        return message("ui.model_by_id_comes", title=one.title)


def model_named(typed: Any) -> str:
    """What `typed` names: the repository where it is the address of a page on the hub, else as it stands. Raises
    UserError where nothing was typed."""
    name = typed.strip() if isinstance(typed, str) else ""
    if "://" in name:
        name = "/".join(unquote(urlsplit(name).path).strip("/").split("/")[:2])
    if not name:
        raise UserError("ui.model_by_id_empty")
    return name
