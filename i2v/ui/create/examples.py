"""Ways into the form: pictures that come with the app, each with a prompt that suits it, and chips whose words are
added to the prompt. Prompts are written in the reader's language."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.processing_utils import save_file_to_cache
from gradio.utils import get_upload_folder
from PIL import Image

from i2v.ui.create.brush import NOTHING_PAINTED
from i2v.ui.tabs import QUIET
from i2v.ui.texts import known, text
from i2v.video.region import written

if TYPE_CHECKING:
    from i2v.ui.create.form import Form

PICTURES = Path(__file__).parents[2] / "assets" / "examples"
EXAMPLES = ("mountains", "dandelion", "brook")
WAYS = {"brook": "-0.35,0.94"}
"""Which way what is painted goes, for those of EXAMPLES where it goes any way."""
CHIPS = ("zoom_in", "zoom_out", "pan_left", "pan_right", "tilt_up", "sway", "water", "clouds", "flicker", "night")
OPPOSITES = {"zoom_in": "zoom_out", "pan_left": "pan_right"}
OPPOSITES |= {second: first for first, second in OPPOSITES.items()}
"""Chips of which a prompt can have only one."""
_COMMAS, _STOPS = ",，、;；", ".!?。！？…"


def example_buttons(i18n: gr.I18n) -> dict[str, gr.Button]:
    """A row with one button for each of EXAMPLES, laid out here."""
    with gr.Row(elem_id="i2v-examples", elem_classes="i2v-small-buttons"):
        return {
            name: gr.Button(
                i18n(f"ui.example_{name}"), icon=str(PICTURES / f"{name}.jpg"), size="sm", min_width=0, scale=0,
                elem_id=f"i2v-example-{name}",
            )
            for name in EXAMPLES
        }  # fmt: skip


def chip_buttons(i18n: gr.I18n) -> dict[str, gr.Button]:
    """A row with one button for each of CHIPS, laid out here."""
    with gr.Row(elem_id="i2v-chips", elem_classes="i2v-small-buttons"):
        return {
            name: gr.Button(i18n(f"ui.chip_{name}"), size="sm", min_width=0, scale=0, elem_id=f"i2v-chip-{name}")
            for name in CHIPS
        }


def connect_examples(
    form: Form, language: gr.Radio, pictured: Mapping[str, Any], takes_region: Callable[[str], bool]
) -> None:
    """Let the buttons fill the form. `pictured` is the event that follows a new picture, as keyword arguments;
    `takes_region` says of a model's name whether it takes what is painted."""
    prompt, model = form.fields["prompt"], form.fields["model"]
    region = [form.fields["region"], form.fields["way"]]
    for name, button in form.examples.items():
        filled = button.click(partial(example, name), language, [form.picture, prompt], **QUIET).then(**pictured)
        if (PICTURES / f"{name}.png").exists():
            filled.then(partial(_painted, name, takes_region), model, region, **QUIET)
    for name, button in form.chips.items():
        button.click(_chip(name), [language, prompt], prompt, **QUIET)


def example(name: str, locale: str) -> list[str]:
    """The picture and the prompt of one of EXAMPLES. The picture comes in by Gradio's upload folder, as one that a
    visitor sends does: from nowhere else is one taken."""
    picture = save_file_to_cache(PICTURES / f"{name}.jpg", cache_dir=get_upload_folder())
    return [picture, text(f"example_{name}_prompt", known(locale))]


def painted(name: str) -> list[str]:
    """What is to move in one of EXAMPLES, as the form's fields `region` and `way` have it."""
    with Image.open(PICTURES / f"{name}.png") as region:
        return [written(region), WAYS.get(name, "")]


def _painted(name: str, takes_region: Callable[[str], bool], model: str) -> list[str]:
    return painted(name) if takes_region(model) else NOTHING_PAINTED


def with_words(prompt: str, words: str, locale: str) -> str:
    """`prompt` with `words` after it; as it was where it says them already."""
    if words.casefold() in prompt.casefold():
        return prompt
    before = prompt.rstrip().rstrip(_COMMAS).rstrip()
    if not before:
        return words
    chinese = locale.startswith("zh")
    if before[-1] in _STOPS:
        return before + ("" if chinese else " ") + words
    return before + ("，" if chinese else ", ") + words


def replaced(prompt: str, old: str, new: str) -> str:
    """`prompt` with `new` in place of `old`, wherever that stands; with it only once."""
    first, *others = re.split(re.escape(old), prompt, flags=re.IGNORECASE)
    if not others:
        return prompt
    if new.casefold() in prompt.casefold():  # both were there: the old one goes, and a comma with it
        return re.sub(rf"\s*[{_COMMAS}]\s*{re.escape(old)}|{re.escape(old)}\s*[{_COMMAS}]?\s*", "", prompt, flags=re.I)
    return first + new + "".join(others)


def _chip(name: str) -> Callable[[str, str], str]:
    def pressed(locale: str, prompt: str | None) -> str:
        locale, prompt = known(locale), prompt or ""
        words = text(f"chip_{name}_words", locale)
        if name in OPPOSITES:
            prompt = replaced(prompt, text(f"chip_{OPPOSITES[name]}_words", locale), words)
        return with_words(prompt, words, locale)

    return pressed
