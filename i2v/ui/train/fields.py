"""The form of the Train tab: what may be said of a training, one component for each key, and the values it hands on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from i2v.families import SPECS
from i2v.messages import UserError
from i2v.models.catalogue import ModelEntry
from i2v.training.asked import MOST_BATCH, MOST_RANK, MOST_STEPS, check_trainable, size_defaults
from i2v.training.clips import FILMS
from i2v.training.request import TrainingRequest
from i2v.ui.create.fold import fold

FIELDS = (
    *("model", "clips", "name", "trigger", "steps", "rank", "rate", "batch", "width", "height", "frames", "fps"),
    *("seed", "dropout", "consistency", "validate", "prompt"),
)
"""In the order of the components; the names are the command line's."""
SIZES = ("width", "height", "frames", "fps")
"""Whose defaults are the model's, and stand as the placeholders of empty fields."""
_FIRST = TrainingRequest


@dataclass(frozen=True)
class TrainForm:
    """The components; `fields` follow FIELDS. `captions`: a table of each clip's name and what is to be seen in it."""

    films: gr.File
    captions: gr.Dataframe
    fields: Mapping[str, gr.components.Component]
    train: gr.Button
    told: gr.HTML

    @property
    def inputs(self) -> list[gr.components.Component]:
        """The components in the order of FIELDS."""
        return [self.fields[name] for name in FIELDS]


def trainable(models: Sequence[ModelEntry]) -> list[ModelEntry]:
    """Those of `models` whose family can be trained."""
    found = []
    for model in models:
        try:
            check_trainable(model.family)
        except UserError:
            continue
        found.append(model)
    return found


def build_train_form(models: Sequence[ModelEntry], chosen: str, locale: str, i18n: gr.I18n) -> TrainForm:
    """Lay out the form in the current column, for the `models` that can be trained."""

    def say(name: str) -> Any:
        return i18n(f"training_page.{name}")

    def number(name: str, value: float, least: float, most: float, step: float, *, whole: bool = True) -> gr.Number:
        return gr.Number(
            value, label=say(name), info=say(f"help_{name}"), minimum=least, maximum=most, step=step,
            precision=0 if whole else None, min_width=150, elem_id=f"i2v-train-{name}",
        )  # fmt: skip

    def line(name: str, value: str = "", *, placeholder: str = "", seen: bool = True) -> gr.Textbox:
        return gr.Textbox(
            value, label=say("folder" if name == "clips" else name), info=say(f"help_{name}"), max_lines=1,
            placeholder=placeholder, min_width=150, visible=seen or "hidden", elem_id=f"i2v-train-{name}",
        )  # fmt: skip

    names = [model.name for model in models]
    model = models[names.index(chosen) if chosen in names else 0]
    spec = SPECS[model.family]
    fields: dict[str, Any] = {}
    fields["model"] = gr.Dropdown(
        model_choices(models, locale), value=model.name, label=say("model"), info=say("help_model"),
        elem_id="i2v-train-model",
    )  # fmt: skip
    films = gr.File(
        label=say("films"), file_count="multiple", file_types=sorted(FILMS), height=150, elem_id="i2v-train-films"
    )
    captions = gr.Dataframe(
        headers=["", ""], datatype=["str", "str"], type="array", column_count=(2, "fixed"), row_count=(0, "fixed"),
        static_columns=[0], interactive=True, wrap=True, label=say("captions"), visible=False, buttons=[],
        column_widths=["40%", "60%"], show_search="none", max_height=260, elem_id="i2v-train-captions",
    )  # fmt: skip
    # Seen where the page is this computer's own: see `TrainTab.opened`.
    fields["clips"] = line("clips", seen=False)
    with _pairs():
        fields["name"] = line("name")
        fields["trigger"] = line("trigger")
        fields["steps"] = number("steps", _FIRST.steps, 1, MOST_STEPS, 1)
        fields["rank"] = number("rank", _FIRST.rank, 1, MOST_RANK, 1)
    with fold(say("more"), "i2v-train-more"):
        with _pairs():
            fields["rate"] = line("rate", f"{_FIRST.learning_rate:g}")
            fields["batch"] = number("batch", _FIRST.batch, 1, MOST_BATCH, 1)
            for name, value in size_defaults(spec).items():
                fields[name] = line(name, placeholder=str(value))
            fields["seed"] = line("seed", placeholder="0")
            fields["dropout"] = number("dropout", _FIRST.dropout, 0, 1, 0.05, whole=False)
            fields["consistency"] = number("consistency", _FIRST.consistency, 0, 100, 0.1, whole=False)
            fields["validate"] = number("validate", _FIRST.validate_steps, 0, MOST_STEPS, 10)
        fields["prompt"] = line("prompt")
    button = gr.Button(say("train"), variant="primary", elem_id="i2v-train-now")
    return TrainForm(films, captions, fields, button, gr.HTML("", elem_id="i2v-train-told"))


def _pairs() -> gr.Row:
    """Fields two by two, each with its box at the bottom of its row."""
    return gr.Row(elem_classes="i2v-train-pairs")


def model_choices(models: Sequence[ModelEntry], locale: str) -> list[tuple[str, str]]:
    """The models with their titles in the reader's language."""
    return [(model.label.render(locale), model.name) for model in models]


def training_values(raw: Sequence[Any]) -> dict[str, Any]:
    """The form's values under the command line's keys; what is empty is left out, and so on its default."""
    values = zip(FIELDS, (one.strip() if isinstance(one, str) else one for one in raw), strict=True)
    return {name: value for name, value in values if value not in (None, "")}
