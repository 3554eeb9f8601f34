"""The choices of the form that not every model obeys. Those that the chosen model does not obey are not seen, and
nothing of them is sent."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import gradio as gr

from i2v.families import SPECS
from i2v.families.spec import FamilySpec
from i2v.family_settings import FAMILY_SETTINGS
from i2v.jobs.asked.adapters import MAX_ADAPTERS
from i2v.messages import UserError
from i2v.models.adapters import adapters_for
from i2v.models.catalogue import find_model
from i2v.models.lora_fit import fits
from i2v.request import AUTO, Adapter
from i2v.ui.create.schedule import OF_GUIDANCE, OFFERED, SCHEDULE, is_left_over, names_of, offered

if TYPE_CHECKING:
    from i2v.settings.settings import Settings

KNOBS = ("cfg", "chunk_frames", "chunk_pixels", "chunk_tokens", "decode_frames", "decode_rows", "vae_window")
CHOICES = ("lora", "true_guidance", "negative", *SCHEDULE, *FAMILY_SETTINGS, *KNOBS, "step_cache")
OFF = 1.0  # as true guidance: the negative prompt is not read


def obeyed(spec: FamilySpec, true_guidance: Any = OFF) -> frozenset[str]:
    """Those of CHOICES that a model of this family obeys. One that is only told its guidance reads the negative prompt
    where `true_guidance`, the value of that field, is above 1."""
    found = {name for names in spec.knobs.values() for name in names}
    found |= set(spec.own_settings)
    if spec.takes_adapters:
        found.add("lora")
    if spec.step_cache:
        found.add("step_cache")
    if spec.two_stages is not None:
        found.add("two_stages")
    if spec.guidance == "embedded":
        found.add("true_guidance")
    if spec.guidance == "second pass" or (isinstance(true_guidance, int | float) and true_guidance > OFF):
        found |= {"negative", *OF_GUIDANCE}
    found |= {name for name, names in names_of(spec).items() if names}
    return frozenset(found & set(CHOICES))


def without_others(values: Mapping[str, Any], spec: FamilySpec) -> dict[str, Any]:
    """`values`, by the names of the form's fields, without the choices that a model of this family does not obey."""
    hidden = set(CHOICES) - obeyed(spec, values.get("true_guidance"))
    return {name: value for name, value in values.items() if not (name in hidden or is_left_over(name, value, spec))}


def visible(name: str, spec: FamilySpec) -> bool | str:
    """How Gradio is told whether the field `name` is seen when the page opens. One that is not keeps its value."""
    return name in obeyed(spec) or "hidden"


def loras_of(spec: FamilySpec, settings: Settings) -> list[str]:
    """The names of the LoRA files that are there for this family."""
    if not spec.takes_adapters:
        return []
    return [one.name for one in adapters_for(settings) if spec.name in one.families]


def loras_for_model(model: Any, settings: Settings) -> list[str]:
    """The names of those that the model of this name takes: where it is on this computer, of its size."""
    with suppress(UserError, TypeError):
        entry = find_model(model or settings.model, settings)
        if SPECS[entry.family].takes_adapters:
            return [one.name for one in adapters_for(settings) if fits(one, entry)]
    return []


def typed_loras(adapters: Sequence[Adapter]) -> list[str]:
    """LoRAs as somebody would type them: the name, and the weight where it is not 1."""
    plain = ((one, one.weight == 1 and ":" not in one.source) for one in adapters)
    return [one.source if is_plain else f"{one.source}:{one.weight!r}" for one, is_plain in plain]


def lora_field(i18n: gr.I18n, spec: FamilySpec, settings: Settings) -> gr.Dropdown:
    """The LoRAs, several at once: from the list, or typed with a weight."""
    return gr.Dropdown(
        loras_of(spec, settings), value=[], label=i18n("ui.lora"), info=i18n("ui.lora_help"), multiselect=True,
        allow_custom_value=True, max_choices=MAX_ADAPTERS, visible=visible("lora", spec), elem_id="i2v-lora",
    )  # fmt: skip


def true_guidance_field(i18n: gr.I18n, spec: FamilySpec) -> gr.Number:
    """The guidance by a second pass of a model that is only told the other one."""
    return gr.Number(
        OFF, label=i18n("ui.true_guidance"), info=i18n("ui.true_guidance_help"), minimum=OFF, step=0.5,
        visible=visible("true_guidance", spec), elem_id="i2v-true_guidance",
    )  # fmt: skip


def seen_now(spec: FamilySpec, form: Mapping[str, Any], settings: Settings, locale: str) -> dict[str, Any]:
    """What the browser is to show under the values of `form`: which of CHOICES, the names of LoRAs, and what can be
    chosen of OFFERED. What is `left` of another model there goes back to the model's own."""
    return {
        "seen": sorted(obeyed(spec, form.get("true_guidance"))),
        "loras": loras_for_model(form["model"], settings) if form.get("model") else loras_of(spec, settings),
        # As they come back from the browser: lists.
        "offered": json.loads(json.dumps(offered(spec, form.get("scheduler"), locale))),
        "left": [name for name in OFFERED if is_left_over(name, form.get(name), spec)],
    }


def choice_updates(now: Mapping[str, Any], before: Any) -> list[Any]:
    """What the browser shows from now on, and updates for the fields of CHOICES: none where it is as `before`."""
    if now == before:
        return [gr.skip()] * (1 + len(CHOICES))
    shown: dict[str, dict[str, Any]] = {name: {"visible": name in now["seen"] or "hidden"} for name in CHOICES}
    shown["lora"]["choices"] = now["loras"]
    for name in OFFERED:
        shown[name] |= now["offered"][name] | ({"value": AUTO} if name in now["left"] else {})
    return [now, *(gr.update(**one) for one in shown.values())]
