"""The choices of what happens to decoded frames: on Create for a new video, in the gallery for one that is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import gradio as gr

from i2v.request import INTERPOLATIONS, UPSCALINGS, Finish

SWITCHES = ("deflicker", "match_colours")
_TIMES = {"interpolate": INTERPOLATIONS, "upscale": UPSCALINGS}


def finish_fields(i18n: gr.I18n, place: str) -> dict[str, gr.components.Component]:
    """A component for each field of `Finish`, by its name, laid out here; `place` begins their ids."""
    fields: dict[str, gr.components.Component] = {}
    for name in SWITCHES:
        fields[name] = gr.Checkbox(
            label=i18n(f"ui.{name}"), info=i18n(f"ui.finish_help_{name}"), elem_id=f"{place}-{name}", container=False
        )
    with gr.Row():
        for name, times in _TIMES.items():
            choices = [(f"{one}×", str(one)) for one in times]
            fields[name] = gr.Radio(
                choices, value=str(times[0]), label=i18n(f"ui.{name}"), info=i18n(f"ui.finish_help_{name}"),
                min_width=180, elem_id=f"{place}-{name}",
            )  # fmt: skip
    return fields


def field_values(finish: Finish) -> dict[str, Any]:
    """What these components show for `finish`, by its names, in their order."""
    return {name: str(value) if name in _TIMES else value for name, value in asdict(finish).items()}


def asked_values(raw: Mapping[str, Any]) -> dict[str, Any]:
    """What these components ask for, of a job that had another finish: all of it, so that what is off is turned off."""
    return {name: raw.get(name) or default for name, default in field_values(Finish()).items()}
