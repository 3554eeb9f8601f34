"""The brush on Create: what should move in the photograph, painted or selected by a click, and which way it goes.

The painting itself is done by brush.js over the photograph. What comes of it stands in the form's fields `region` and
`way`, which nobody sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from i2v.ui.create.cut import opened
from i2v.ui.tabs import QUIET
from i2v.video.region import written
from i2v.video.selection import select

if TYPE_CHECKING:
    from i2v.ui.create.form import Form

TOOLS = ("paint", "erase", "way", "smaller", "larger", "undo", "clear")
NOTHING_PAINTED = ["", ""]
"""The values of `region` and `way` for a photograph that is new."""


@dataclass(frozen=True)
class Brush:
    """The components; `rows` holds all that is seen. `wire` carries what the browser has painted and where it was
    clicked, `answer` what a click selects, `proposal` where the model would have something move by itself."""

    rows: gr.Column
    wire: gr.HTML
    answer: gr.Textbox
    proposal: gr.Textbox


def brush_rows(i18n: gr.I18n, *, visible: bool) -> tuple[Brush, dict[str, gr.Textbox]]:
    """The button, the tools it opens, and the fields `region` and `way`, laid out here. `visible`: whether the model
    takes what is painted."""
    with gr.Column(visible=visible, elem_id="i2v-brush") as rows:
        with gr.Row(elem_classes="i2v-small-buttons"):
            _button(i18n, "toggle")
        with gr.Row(elem_id="i2v-brush-tools", elem_classes="i2v-small-buttons"):
            for name in TOOLS:
                _button(i18n, name)
        gr.Markdown(i18n("ui.brush_help"), elem_id="i2v-brush-help")
        wire = gr.HTML("", js_on_load="window.i2vBrush.connect(trigger);", elem_id="i2v-brush-wire")
    answer, proposal = gr.Textbox(visible=False), gr.Textbox(visible="hidden", elem_id="i2v-proposal")
    fields = {name: gr.Textbox(visible="hidden", elem_id=f"i2v-{name}") for name in ("region", "way")}
    return Brush(rows, wire, answer, proposal), fields


def connect_brush(form: Form) -> None:
    """Let the fields follow the painting and the painting the fields, and a click be answered."""
    brush, fields = form.brush, [form.fields["region"], form.fields["way"]]
    brush.wire.submit(None, None, fields, js="() => window.i2vBrush.painted()", **QUIET)
    show = "(region, way) => { window.i2vBrush.show(region, way); return []; }"
    gr.on([field.change for field in fields], None, fields, None, js=show, **QUIET)
    propose = "(proposal) => { window.i2vBrush.propose(proposal); return []; }"
    brush.proposal.change(None, brush.proposal, None, js=propose, **QUIET)
    answered = brush.wire.click(selected, form.cut.thumbnail, brush.answer, **QUIET)
    answered.then(None, brush.answer, None, js="(answer) => { window.i2vBrush.take(answer); return []; }", **QUIET)


def selected(thumbnail: str, place: gr.EventData) -> str:
    """What belongs together at the clicked place, as a region is written; nothing where there is no photograph.
    `thumbnail`: the photograph as the page holds it for the frame of the cut."""
    x, y = (getattr(place, side, None) for side in ("x", "y"))
    if not thumbnail or not all(isinstance(side, (int, float)) and 0 <= side <= 1 for side in (x, y)):
        return ""
    return written(select(opened(thumbnail), x, y))


def shown_for(takes_region: bool) -> Any:
    """An update for `Brush.rows` after another model was chosen."""
    return gr.update(visible=takes_region)


def _button(i18n: gr.I18n, name: str) -> gr.Button:
    return gr.Button(i18n(f"ui.brush_{name}"), size="sm", min_width=0, scale=0, elem_id=f"i2v-brush-{name}")
