"""The shelf of LoRAs on Create: below the field in which they are typed a row for each file that is there, to be ticked
and weighed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from i2v.families.spec import FamilySpec
from i2v.models.verify import SAFETENSORS
from i2v.settings.settings import Settings
from i2v.ui.create.choices import lora_field
from i2v.ui.create.fold import fold
from i2v.ui.gate.secret import browser_secret

_SCRIPT = Path(__file__).with_name("lora_shelf.js").read_text(encoding="utf-8")


@dataclass(frozen=True)
class LoraShelf:
    """`opener` opens and closes it. `add` takes files, `fetch` the one that `hub` names, until `stop` is pressed, which
    is seen only then; `told` says what came of it.
    `opened`: whether this page has ever opened it; until then nothing is read for it. `kept`: in the browser, what was
    chosen, by the model's name."""

    opener: gr.Button
    add: gr.UploadButton
    hub: gr.Textbox
    fetch: gr.Button
    stop: gr.Button
    told: gr.HTML
    rows: gr.HTML
    opened: gr.State
    kept: gr.BrowserState


def lora_shelf(i18n: gr.I18n, spec: FamilySpec, settings: Settings) -> tuple[LoraShelf, gr.Dropdown]:
    """The shelf, folded, and the field in it, laid out here. It is seen with the field (style.css)."""
    with fold(i18n("ui.lora"), "i2v-loras") as opener:
        field = lora_field(i18n, spec, settings)
        add = gr.UploadButton(
            i18n("ui.lora_add"), file_types=[SAFETENSORS], file_count="multiple", size="sm", elem_id="i2v-lora-add"
        )
        with gr.Row(elem_id="i2v-lora-from-hub"):
            hub = gr.Textbox(
                label=i18n("ui.lora_hub"), placeholder=i18n("ui.lora_hub_placeholder"), max_lines=1, min_width=160,
                elem_id="i2v-lora-hub",
            )  # fmt: skip
            fetch = gr.Button(i18n("ui.lora_fetch"), scale=0, min_width=90, elem_id="i2v-lora-fetch")
            stop = gr.Button(i18n("ui.lora_stop"), scale=0, min_width=90, visible="hidden", elem_id="i2v-lora-stop")
        told = gr.HTML("", elem_id="i2v-lora-told")
        most_bytes = settings.max_upload_mb * 2**20  # as Gradio counts what it takes
        rows = gr.HTML("", js_on_load=_SCRIPT, elem_id="i2v-lora-rows", most_bytes=most_bytes)
    kept = gr.BrowserState({}, storage_key="i2v-loras", secret=browser_secret())
    return LoraShelf(opener, add, hub, fetch, stop, told, rows, gr.State(False), kept), field
