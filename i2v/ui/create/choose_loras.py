"""Choosing LoRAs by their rows. The field holds what is chosen; the rows only show it, and change it. What was chosen
for a model is there again when somebody returns to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.events import Dependency

from i2v.families import SPECS
from i2v.jobs.asked.adapters import parted
from i2v.models.adapters import adapters_for
from i2v.models.lora_about import LONGEST_WORD
from i2v.models.lora_fit import fits
from i2v.models.lora_list import list_loras
from i2v.models.lora_pictures import picture_of
from i2v.models.lora_places import FOLDER, lora_folders
from i2v.models.lora_removal import is_own
from i2v.ui.create.examples import with_words
from i2v.ui.create.given import entry_named
from i2v.ui.create.lora_rows import LoraQuestion, LoraRow, lora_rows
from i2v.ui.tabs import LANGUAGE, QUIET
from i2v.ui.texts import known

if TYPE_CHECKING:
    from i2v.settings.settings import Settings
    from i2v.ui.create.form import Form

MOST_MODELS = 40  # whose LoRAs are remembered; of more, those chosen longest ago are forgotten
_REMEMBER = f"""(kept, model, loras) => {{
  const {{ [model]: _, ...others }} = kept ?? {{}};
  return Object.fromEntries([...Object.entries(others).slice({1 - MOST_MODELS}), [model, loras ?? []]]);
}}"""


def rows_for(model: Any, settings: Settings, locale: str, question: LoraQuestion | None = None) -> str:
    """The shelf's rows for the model of this name, and what is asked of one of them."""
    entry, folder = entry_named(model, settings), settings.models_dir / FOLDER
    if entry is None or not SPECS[entry.family].takes_adapters:
        return ""
    elsewhere = lora_folders(settings.model_folders)
    listed = list_loras(settings, entry)
    rows = [
        LoraRow(
            one,
            picture_of(one.file.path, settings.models_dir, elsewhere),
            is_own(one.file.path, settings.models_dir),
        )
        for one in listed
    ]
    return lora_rows(rows, str(folder), locale, question)


def loras_for(kept: Any, model: Any, loras: Any, settings: Settings) -> Any:
    """What the field holds for the model of this name: what was chosen for it before; else what of `loras`, chosen for
    another, can go on it. No change where that model takes none: the field is not seen then."""
    entry = entry_named(model, settings)
    if entry is None or not SPECS[entry.family].takes_adapters:
        return gr.skip()
    before = kept.get(model) if isinstance(kept, Mapping) else None
    if isinstance(before, list) and all(isinstance(one, str) for one in before):
        return before
    chosen = [one for one in loras if isinstance(one, str)] if isinstance(loras, Sequence) else []
    files = {one.name: one for one in adapters_for(settings)}
    named = ((one, files.get(parted(one, files.__contains__)[0])) for one in chosen)
    return [one for one, file in named if file is None or fits(file, entry)]


def with_word(act: Any, word: Any, locale: str, prompt: Any) -> Any:
    """The sentence with the word of a row that was clicked; no change for what is none."""
    if act != "words" or not isinstance(word, str) or not 0 < len(word) <= LONGEST_WORD:
        return gr.skip()
    return with_words(prompt if isinstance(prompt, str) else "", word, locale)


def connect_loras(
    form: Form, settings: Settings, language: gr.Radio, ended: gr.Textbox, translated: Dependency, turned: Dependency
) -> None:
    """Let the rows be read when the shelf is opened, and anew while it may be seen: for another model or language, and
    when a job has `ended`, which may have trained one. `turned`: the event after which another model, chosen from the
    list, stands in the form."""
    shelf, model, field, prompt = (form.shelf, *(form.fields[name] for name in ("model", "lora", "prompt")))

    def shown(locale: str, chosen: Any, opened: bool = True) -> list[Any]:
        return [rows_for(chosen, settings, known(locale)) if opened else gr.skip(), opened]

    def worded(locale: str, sentence: Any, event: gr.EventData) -> Any:
        return with_word(getattr(event, "act", None), getattr(event, "id", None), known(locale), sentence)

    look: dict[str, Any] = {"outputs": [shelf.rows, shelf.opened], **QUIET, "preprocess": False}
    shelf.opener.click(shown, [language, model], js=f"(_, model) => [{LANGUAGE}, model]", **look)
    again = {"fn": shown, "inputs": [language, model, shelf.opened], **look}
    gr.on([model.change, ended.change], js=f"(_, ...rest) => [{LANGUAGE}, ...rest]", **again)
    translated.then(**again)
    shelf.rows.submit(None, field, field, js="(loras) => [window.i2vLoras.merged(loras)]", **QUIET)
    shelf.rows.click(worded, [language, prompt], prompt, **QUIET)
    show = "(loras) => { window.i2vLorasTyped = loras; window.i2vLoras?.show(loras); return []; }"
    field.change(None, field, None, js=show, **QUIET)
    field.change(None, [shelf.kept, model, field], shelf.kept, js=_REMEMBER, **QUIET)

    def remembered(kept: Any, name: Any, loras: Any) -> Any:
        return loras_for(kept, name, loras, settings)

    back = {"fn": remembered, "inputs": [shelf.kept, model, field], "outputs": field, **QUIET, "preprocess": False}
    model.input(**back)
    turned.then(**back)
