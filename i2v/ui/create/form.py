"""The form: what a person may set, one component per key of a request, and the values it hands on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from i2v.families import SPECS
from i2v.families.spec import FamilySpec
from i2v.family_settings import FAMILY_SETTINGS
from i2v.jobs.asked.prepare import FINISH_KEYS, VIDEO_STRENGTH, cap_frames, default_size
from i2v.jobs.asked.two_stages import said_of
from i2v.messages import Message, message
from i2v.models.catalogue import ModelEntry
from i2v.plan import CFG_MODES, OFFLOADS, POLICIES, PRECISIONS
from i2v.request import AUTO, GenerationRequest
from i2v.settings.settings import Settings, preset_names
from i2v.ui.create.brush import Brush, brush_rows
from i2v.ui.create.choices import (
    KNOBS,
    seen_now,
    true_guidance_field,
    typed_loras,
    visible,
    without_others,
)
from i2v.ui.create.clip import Clip, clip_place
from i2v.ui.create.cut import Cut, cut_row
from i2v.ui.create.examples import chip_buttons, example_buttons
from i2v.ui.create.finish_fields import field_values, finish_fields
from i2v.ui.create.fold import fold
from i2v.ui.create.last_picture import SOURCES, last_picture_place
from i2v.ui.create.lora_shelf import LoraShelf, lora_shelf
from i2v.ui.create.model_list import ModelList, model_list
from i2v.ui.create.schedule import SCHEDULE, AnyDropdown, schedule_fields
from i2v.ui.create.shape import Shape, shape_row
from i2v.ui.create.task import Dropped, places, task_of
from i2v.ui.gate.secret import browser_secret
from i2v.ui.tabs import CHOOSE
from i2v.ui.texts import text
from i2v.vae_window import OWN

# In the order of the components; the names are the command line's.
FIELDS = (
    *("prompt", "negative", "model", "width", "height", "frames", "fps", "steps", "guidance", "seed", "fit"),
    *("region", "way"),
    *("lora", "true_guidance", *SCHEDULE, *FAMILY_SETTINGS),
    *("task", "strength"),
    *FINISH_KEYS,
    *("preset", "precision", "chunk_frames", "chunk_pixels", "chunk_tokens", "cfg", "offload", "decode_frames"),
    *("decode_rows", "vae_window", "policy", "step_cache"),
)
NUMBERS = ("width", "height", "frames", "fps", "steps", "guidance")
NUMERIC = (*NUMBERS, "true_guidance", "guidance_rescale", "strength")
SEVERAL = ("lora",)
"""Whose values are lists of texts."""
_COUNTS = ("chunk_frames", "chunk_pixels", "chunk_tokens", "decode_frames", "decode_rows")
_TYPED = (*_COUNTS, "vae_window", "step_cache", *FAMILY_SETTINGS)
_CHOICES: dict[str, tuple[str, ...]] = {
    "precision": PRECISIONS,
    "cfg": CFG_MODES,
    "offload": OFFLOADS,
    "policy": POLICIES,
}
_DICE = Path(__file__).with_name("dice.svg")
SEED_LIMIT = 2**31


@dataclass(frozen=True)
class Form:
    """The form's components; `fields` follow FIELDS. In the browser: `ticket` is for the photograph (ui/kept.py),
    `kept_numbers` are those of other models and presets (ui/numbers.py). `choices_shown`: what it shows of the choices
    that not every model obeys."""

    picture: gr.Image
    last_picture: gr.Image
    fields: Mapping[str, gr.components.Component]
    dice: gr.Button
    reuse: gr.Button
    fast: gr.Button
    model_note: gr.HTML
    models: ModelList
    shelf: LoraShelf
    examples: Mapping[str, gr.Button]
    chips: Mapping[str, gr.Button]
    shape: Shape
    cut: Cut
    brush: Brush
    clip: Clip
    hints: gr.HTML
    ticket: gr.BrowserState
    kept_numbers: gr.BrowserState
    said: gr.HTML
    choices_shown: gr.State

    @property
    def sources(self) -> list[gr.components.Component]:
        """What a video is made from beside the sentence: photograph, video, and the picture that it ends with."""
        return [self.picture, self.clip.file, self.last_picture]

    @property
    def inputs(self) -> list[gr.components.Component]:
        """The components in the order of FIELDS."""
        return [self.fields[name] for name in FIELDS]


def build_form(settings: Settings, models: Sequence[ModelEntry], chosen: str, locale: str, i18n: gr.I18n) -> Form:
    """Lay out the form in the current Blocks column."""

    def say(name: str) -> Any:
        return i18n(f"ui.{name}")

    fields: dict[str, Any] = {}
    spec = SPECS[next(model.family for model in models if model.name == chosen)]
    seen = places(spec, Dropped())
    picture = gr.Image(
        label=say("picture"),
        type="filepath",
        image_mode=None,
        sources=SOURCES,
        height=250,
        placeholder=say("picture_drop_or_none" if seen.alone else "picture_drop"),
        visible=seen.picture or "hidden",
        elem_id="i2v-picture",
    )
    known = [SPECS[model.family] for model in models if model.family in SPECS]
    last_picture = last_picture_place(i18n, seen, ever=any(one.last_image("i2v") for one in known))
    ever = any("v2v" in one.tasks for one in known)
    clip, fields["strength"] = clip_place(i18n, spec, locale, ever=ever)
    fields["task"] = gr.Textbox(task_of(spec, picture=False, clip=False), visible="hidden", elem_id="i2v-task")
    brush, painted = brush_rows(i18n, visible=spec.takes_region)
    fields |= painted
    examples = example_buttons(i18n)
    cut, fields["fit"] = cut_row(settings.fit, i18n)
    fields["prompt"] = gr.Textbox(
        label=say("prompt"), placeholder=say("prompt_placeholder"), lines=2, elem_id="i2v-prompt"
    )
    said = gr.HTML("", elem_id="i2v-said")
    chips = chip_buttons(i18n)
    fields["model"] = AnyDropdown(model_choices(models, locale), value=chosen, label=say("model"), elem_id="i2v-model")
    numbers = default_numbers(spec, settings)
    model_note = gr.HTML("", js_on_load=CHOOSE, elem_id="i2v-model-note")
    all_models = model_list(i18n)
    shape = shape_row(i18n)
    shape.told.render()
    with gr.Row(elem_id="i2v-sampling"):
        fields["steps"] = _number(say("steps"), numbers["steps"], least=1, step=1, name="steps")
        fields["guidance"] = _number(
            say("guidance"), numbers["guidance"], least=0, step=0.5, name="guidance", precision=None
        )
        # Text, since a number field cannot be left empty; the service reads it.
        fields["seed"] = gr.Textbox(
            label=say("seed"), placeholder=say("seed_placeholder"), max_lines=1, min_width=60, elem_id="i2v-seed"
        )
        dice = gr.Button(say("dice"), icon=str(_DICE), min_width=44, scale=0, elem_id="i2v-dice")
    reuse = gr.Button(visible=False, size="sm", elem_id="i2v-reuse")
    fast = gr.Button(visible=False, size="sm", elem_id="i2v-fast")
    hints = gr.HTML("", elem_id="i2v-hints")
    shelf, fields["lora"] = lora_shelf(i18n, spec, settings)
    with fold(say("advanced"), "i2v-advanced"):
        with gr.Row(elem_id="i2v-size"):
            for name, step in (("width", 8), ("height", 8), ("frames", 1), ("fps", 1)):
                fields[name] = _number(say(name), numbers[name], least=step, step=step, name=name)
        gr.Markdown(say("advanced_help"))
        fields |= schedule_fields(i18n, spec, locale, {name: visible(name, spec) for name in SCHEDULE})
        labels = auto_labels(settings, locale)

        def typed(name: str) -> gr.Textbox:
            return gr.Textbox(
                label=say(name),
                placeholder=labels[name],
                info=say("zero_is_all" if name in _COUNTS else f"help_of_{name}"),
                max_lines=1,
                min_width=140,
                visible=visible(name, spec),
                elem_id=f"i2v-{name}",
            )

        with gr.Row():
            fields |= {name: typed(name) for name in FAMILY_SETTINGS}
        fields["true_guidance"] = true_guidance_field(i18n, spec)
        fields["negative"] = gr.Textbox(
            label=say("negative"), placeholder=say("negative_placeholder"), lines=2, visible=visible("negative", spec),
            elem_id="i2v-negative",
        )  # fmt: skip
        presets = [(say("auto_plain"), AUTO), *((name, name) for name in preset_names())]
        fields["preset"] = gr.Dropdown(presets, value=AUTO, label=say("preset"), min_width=140)
        with gr.Row():
            for name in _CHOICES:
                seen_too = visible(name, spec) if name in KNOBS else True
                fields[name] = gr.Dropdown(
                    labels[name], value=AUTO, label=say(name), min_width=200, visible=seen_too, elem_id=f"i2v-{name}"
                )
        with gr.Row():
            fields |= {name: typed(name) for name in _TYPED if name not in FAMILY_SETTINGS}
    with fold(say("finishing"), "i2v-finishing"):
        fields |= finish_fields(i18n, "i2v")
    ticket, kept_numbers = (
        gr.BrowserState(None, storage_key=f"i2v-{name}", secret=browser_secret()) for name in ("upload", "numbers")
    )
    return Form(
        picture, last_picture, fields, dice, reuse, fast, model_note, all_models, shelf, examples, chips, shape, cut,
        brush, clip, hints, ticket, kept_numbers, said, gr.State(seen_now(spec, {}, settings, locale)),
    )  # fmt: skip


def _number(label: Any, value: float, *, least: float, step: float, name: str, precision: int | None = 0) -> gr.Number:
    return gr.Number(
        value, label=label, minimum=least, step=step, precision=precision, min_width=60, elem_id=f"i2v-{name}"
    )


def model_choices(models: Sequence[ModelEntry], locale: str) -> list[tuple[str, str]]:
    """The models with their titles in the reader's language; what more there is to say stands in the note."""
    return [(model.label.render(locale), model.name) for model in models]


def default_numbers(
    spec: FamilySpec, settings: Settings, picture_size: tuple[int, int] | None = None
) -> dict[str, float]:
    """What the form starts with: the family's defaults within the preset's caps, by the names of NUMBERS.

    With a picture (width, height) the video takes its shape at the same number of pixels, so that nothing is cut.
    """
    values = (
        *default_size(spec, settings, picture_size),
        *(cap_frames(spec.defaults.num_frames, settings.max_frames, spec), spec.defaults.fps),
        *(min(spec.defaults.num_inference_steps, settings.max_steps), spec.defaults.guidance_scale),
    )
    return dict(zip(NUMBERS, values, strict=True))


def auto_labels(settings: Settings, locale: str) -> dict[str, Any]:
    """What "auto" stands for now: choices for the dropdowns, placeholders for the counts."""
    labels: dict[str, Any] = {}
    for name, values in _CHOICES.items():
        shown = {value: _choice_label(name, value, locale) for value in values}
        auto = text("auto", locale, value=shown[getattr(settings, name)])
        labels[name] = [(auto, AUTO), *((label, value) for value, label in shown.items())]
    for name in _TYPED:
        value = getattr(settings, name)
        if value == OWN or (value is None and name in FAMILY_SETTINGS):
            value = text("vae_window_own", locale)
        labels[name] = text("auto", locale, value=value or text("all" if name in _COUNTS else "never", locale))
    return labels


def auto_updates(settings: Settings, locale: str) -> list[Any]:
    """Updates for the components of AUTO_FIELDS after another preset or language was chosen."""
    labels = auto_labels(settings, locale)
    choices = [gr.update(choices=labels[name]) for name in _CHOICES]
    return choices + [gr.update(placeholder=labels[name]) for name in _TYPED]


AUTO_FIELDS = (*_CHOICES, *_TYPED)


def _choice_label(name: str, value: str, locale: str) -> str:
    return value if name == "precision" else text(f"{name}_{value}", locale)


def model_message(entry: ModelEntry) -> Message | None:
    """What a person should know before choosing this model."""
    if entry.problem:
        return entry.problem
    if not entry.present:
        return message("ui.download_note", gib=f"{SPECS[entry.family].download_gib:.1f}")
    about = SPECS[entry.family].about
    return message(about) if about else None


def form_values(request: GenerationRequest) -> list[Any]:
    """A request back in the form, in the order of FIELDS; its seed stays free, so that the next video is a new one."""
    values = {
        "prompt": request.prompt,
        "negative": request.negative_prompt,
        "model": request.model,
        "width": request.width,
        "height": request.height,
        "frames": request.num_frames,
        "fps": request.fps,
        "steps": request.num_inference_steps,
        "guidance": request.guidance_scale,
        "seed": "",
        "fit": request.fit,
        "region": request.region or "",
        "way": "" if request.way is None else ",".join(map(repr, request.way)),
        "lora": typed_loras(request.adapters),
        "true_guidance": request.true_guidance_scale,
        "scheduler": request.scheduler or AUTO,
        "betas": request.betas or AUTO,
        "guidance_rescale": request.guidance_rescale,
        "guidance_curve": request.guidance_curve,
        "two_stages": said_of(request) or AUTO,
        **{name: AUTO if (value := getattr(request, name)) is None else f"{value:g}" for name in FAMILY_SETTINGS},
        "task": request.task,
        "strength": next((one.strength for one in request.inputs if one.kind == "video"), VIDEO_STRENGTH),
        **field_values(request.finish),
        **{name: AUTO if value is None else value for name, value in vars(request.options).items()},
    }
    for name in _TYPED:
        values[name] = "" if values[name] == AUTO else str(values[name])
    return [values[name] for name in FIELDS]


def request_values(raw: Sequence[Any], spec: FamilySpec | None, task: str | None = None) -> dict[str, Any]:
    """The form's values under the command line's keys, with another `task` where one is given; what is empty is left
    out, and so on auto; and so is what a model of the family `spec` does not obey. None: there is no such model."""
    values = {name: value for name, value in zip(FIELDS, raw, strict=True) if value not in (None, "", [])}
    if spec is not None:
        values = without_others(values, spec)
    if task is not None:
        values["task"] = task
    if values.get("task") != "v2v":
        values.pop("strength", None)
    return values
