"""The place of the models' cards: below the field, folded."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from i2v.ui.create.fold import fold
from i2v.ui.tabs import CHOOSE

TICK_SECONDS = 2.0
GET = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-get]");
  if (!button) return;
  button.parentElement.querySelector("[data-act]")?.focus(); // it goes, and takes the keyboard to the one beside it
  trigger("submit", { id: button.dataset.get });
});
"""
"""Of a card's button that downloads: not a click of the list, which chooses."""


@dataclass(frozen=True)
class CardsShown:
    """The cards that were drawn last, and the downloads that had not brought their model then: of each the hub's id and
    its state."""

    coming: frozenset[tuple[str, str]] = frozenset()
    cards: str = ""

    @property
    def live(self) -> frozenset[str]:
        """The hub's ids of the models that came or waited."""
        return frozenset(hub_id for hub_id, state in self.coming if state in ("waiting", "coming"))


@dataclass(frozen=True)
class ModelList:
    """`opener` opens the list and closes it. `opened`: whether this page has ever opened it; until then nothing is
    worked out for it, and from then on `timer` runs: a download may begin anywhere. `told`: why one cannot be. `shown`
    says what was drawn."""

    opener: gr.Button
    cards: gr.HTML
    opened: gr.State
    told: gr.HTML
    timer: gr.Timer
    shown: gr.State


def model_list(i18n: gr.I18n) -> ModelList:
    """The list, folded, laid out here."""
    with fold(i18n("ui.compare_models"), "i2v-compared") as opener:
        told = gr.HTML("", elem_id="i2v-model-cards-told")
        cards = gr.HTML("", js_on_load=CHOOSE + GET, elem_id="i2v-model-cards")
    return ModelList(opener, cards, gr.State(False), told, gr.Timer(TICK_SECONDS, active=False), gr.State(CardsShown()))
