"""The place of the models' cards: below the field, folded."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from i2v.ui.create.fold import fold
from i2v.ui.tabs import CHOOSE


@dataclass(frozen=True)
class ModelList:
    """`opener` opens the list and closes it. `opened`: whether this page has ever opened it; until then nothing is
    worked out for it."""

    opener: gr.Button
    cards: gr.HTML
    opened: gr.State


def model_list(i18n: gr.I18n) -> ModelList:
    """The list, folded, laid out here."""
    with fold(i18n("ui.compare_models"), "i2v-compared") as opener:
        cards = gr.HTML("", js_on_load=CHOOSE, elem_id="i2v-model-cards")
    return ModelList(opener, cards, gr.State(False))
