"""Fast, or full quality: a button that takes a LoRA for few steps, with the steps, the guidance and the flow shift that
suit it, and one that gives it up again. It is there for models that such LoRAs are made for; where the file is not on
this computer, it says which, and where it belongs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from i2v.families import SPECS
from i2v.families.spec import FamilySpec
from i2v.models.few_steps import found_for_few_steps, is_for_few_steps, shift_for_few_steps
from i2v.models.lora_places import FOLDER, lora_folders
from i2v.settings.settings import Settings
from i2v.ui.create.given import entry_named
from i2v.ui.shown import panels
from i2v.ui.tabs import LANGUAGE, QUIET
from i2v.ui.texts import known, text

if TYPE_CHECKING:
    from i2v.ui.create.form import Form

TAKEN = ("lora", "steps", "guidance", "flow_shift")
"""The fields that the button changes."""


def fast_shown(spec: FamilySpec, form: Mapping[str, Any], locale: str) -> Any:
    """The button under the values of `form`."""
    if spec.few_steps is None:
        return gr.update(visible=False)
    if _without(spec, form.get("lora")) is None:
        label = text("fast_quality", locale, steps=spec.few_steps.steps)
    else:
        label = text("full_quality", locale, steps=spec.defaults.num_inference_steps)
    return gr.update(visible=True, value=label)


def taken(
    spec: FamilySpec | None,
    loras: Any,
    models_dir: Path,
    locale: str,
    elsewhere: Sequence[Path] = (),
    folder: Path | None = None,
) -> list[Any]:
    """What a click puts into the fields of TAKEN, where `loras` are chosen, and what it says."""
    few = spec and spec.few_steps
    if spec is None or few is None:
        return [*[gr.skip()] * len(TAKEN), ""]
    others = _without(spec, loras)
    own_shift = "" if few.shifts else gr.skip()
    if others is not None:
        return [others, spec.defaults.num_inference_steps, spec.defaults.guidance_scale, own_shift, ""]
    files = found_for_few_steps(spec, models_dir, elsewhere, folder)
    if not files:
        told = text("fast_missing", locale, model=spec.title, folder=str(models_dir / FOLDER), address=few.source)
        return [*[gr.skip()] * len(TAKEN), panels.note(told)]
    shift = shift_for_few_steps(files, spec)
    shown = own_shift if shift is None else f"{shift:g}"
    return [[*(loras or []), *files], few.steps, few.guidance_scale, shown, ""]


def connect_fast(form: Form, settings: Settings, language: gr.Radio, told: gr.HTML) -> None:
    """Let a click find the file anew: it may have been put there since the form was last looked at."""
    fields = [form.fields[name] for name in TAKEN]

    def clicked(locale: str, model: str, loras: Any) -> list[Any]:
        elsewhere = lora_folders(settings.model_folders)
        entry = entry_named(model, settings)
        spec, folder = entry and SPECS[entry.family], entry.folder if entry and entry.present else None
        return taken(spec, loras, settings.models_dir, known(locale), elsewhere, folder)

    form.fast.click(
        clicked, [language, form.fields["model"], form.fields["lora"]], [*fields, told],
        js=f"(_, ...form) => [{LANGUAGE}, ...form]", **{**QUIET, "preprocess": False},
    )  # fmt: skip


def _without(spec: FamilySpec, loras: Sequence[Any] | None) -> list[str] | None:
    """`loras` as they are typed but for those for few steps; None where there is none of these."""
    chosen = [one for one in loras or [] if isinstance(one, str)]
    others = [one for one in chosen if not is_for_few_steps(one.partition(":")[0], spec)]
    return others if len(others) < len(chosen) else None
