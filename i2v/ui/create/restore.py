"""A video made here gives its settings and its picture back to the form."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr

from i2v.families import SPECS
from i2v.families.spec import FamilySpec
from i2v.family_settings import FAMILY_SETTINGS
from i2v.jobs.asked.adapters import adapters_of
from i2v.jobs.asked.prepare import PLAN_KEYS, VIDEO_STRENGTH, build_request
from i2v.jobs.job.again import values_of
from i2v.messages import Message, UserError, message
from i2v.models.catalogue import find_model
from i2v.request import GenerationRequest, Input
from i2v.settings.settings import Settings
from i2v.settings.values import Text, shown
from i2v.ui.create.form import FIELDS, Form, form_values
from i2v.ui.shown import panels
from i2v.ui.tabs import QUIET
from i2v.ui.texts import known
from i2v.video import region
from i2v.video.metadata import is_cut, read_made_here
from i2v.video.stills import first_frame, last_frame

STILL = "first-frame.png"
LAST_STILL = "last-frame.png"


# What a model has its own limits for, in the order in which it is given up where the chosen model cannot do it.
_OF_THE_MODEL = (
    ("width", "height"),
    ("frames",),
    ("steps",),
    ("guidance",),
    ("true_guidance",),
    ("scheduler",),
    ("betas",),
    ("guidance_rescale", "guidance_curve"),
    ("two_stages",),
    *((name,) for name in FAMILY_SETTINGS),
    ("lora",),
    ("fps",),
    ("task",),
    PLAN_KEYS,
)


@dataclass(frozen=True)
class Restored:
    """What a video was made from: the request, and its first frame as a picture where the task begins with one, its
    last frame where one was given too. Where its model is not here the request names the chosen one; `notes` say so,
    and what else could not be given back."""

    request: GenerationRequest
    picture: Path | None
    last_picture: Path | None = None
    model_is_its_own: bool = True
    notes: tuple[Message, ...] = ()


def restored_from(path: Path, settings: Settings, chosen: str | None = None) -> Restored:
    """The request in the metadata of the mp4 at `path`, checked as if somebody had typed it, and the video's first
    frame, written beside it. No network is asked. Where the model is not here, `chosen` stays (else the settings'
    own). Raises UserError for a video that was not made here, or that asks for what cannot be."""
    _, made = read_made_here(path)
    settings = replace(settings, offline=True)
    values = values_of(made)
    notes: list[Message] = []
    try:
        spec = SPECS[find_model(Text().parse(made.model, "model"), settings).family]
        own = True
    except UserError:
        own = False
        notes.append(message("ui.restored_other_model", model=shown(made.model)))
    if own and (lost := _lost_loras(values, settings, spec)):
        values = {**values, "lora": None}
        notes.append(lost)
    try:
        request = build_request(values, settings, to_run=False) if own else _with_model(chosen, values, settings)
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise UserError("video.no_metadata", file=path.name) from error
    if request.task == "t2v":
        return Restored(request, None, model_is_its_own=own, notes=tuple(notes))
    if request.task == "v2v":  # its clip is not in the file; how far to go from it is
        missing = Input("video", "", at=None, strength=float(values.get("strength", VIDEO_STRENGTH)))
        said = (*notes, message("ui.restored_without_clip"))
        return Restored(replace(request, inputs=(missing,)), None, model_is_its_own=own, notes=said)
    picture: Path | None = path.with_name(STILL)
    last = path.with_name(LAST_STILL) if made.last_image_path else None
    try:
        first_frame(path, picture, max_megapixels=settings.max_picture_megapixels)
        if last is not None:
            last_frame(path, last)
        notes += [message("video.incomplete", file=path.name)] if is_cut(path) else []
    except UserError as error:
        picture = last = None
        notes.append(message("ui.restored_incomplete", file=path.name) if is_cut(path) else error.message)
    request = replace(request, region=region.kept_in_frame(request) if picture else None)
    return Restored(request, picture, last, own, tuple(notes))


def _lost_loras(values: Mapping[str, Any], settings: Settings, spec: FamilySpec) -> Message | None:
    """Why the LoRAs of `values` cannot be used any more; None where they can."""
    try:
        adapters_of(values.get("lora") or "", settings, spec)
    except UserError as error:
        return error.message
    return None


def _with_model(chosen: str | None, values: dict[str, Any], settings: Settings) -> GenerationRequest:
    """The request of `values` for the `chosen` model, without what it cannot do. Raises UserError where nobody could
    have asked for them."""
    try:
        model = find_model(chosen or settings.model, settings).name
    except UserError:  # a form may hold a model that has gone since
        model = find_model(settings.model, settings).name
    values = {**values, "model": model}
    for keys in _OF_THE_MODEL:
        try:
            return build_request(values, settings, to_run=False)
        except UserError:
            alone = {key: values[key] for key in ("model", *keys) if key in values}
            with suppress(UserError):
                build_request(alone, settings, to_run=False)
                continue
            values = {key: value for key, value in values.items() if key not in keys}
    return build_request(values, settings, to_run=False)


def same_again(request: GenerationRequest) -> list[Any]:
    """The form's values, in the order of FIELDS, that make this very video again: its seed too."""
    values = dict(zip(FIELDS, form_values(request), strict=True))
    return list((values | {"seed": str(request.seed)}).values())


def restore_button(i18n: gr.I18n) -> gr.UploadButton:
    """A button that takes a video; `connect_restore` says what becomes of it."""
    return gr.UploadButton(
        i18n("ui.restore_video"), file_types=[".mp4"], size="sm", variant="secondary", elem_id="i2v-restore"
    )


def connect_restore(button: gr.UploadButton, form: Form, settings: Settings, language: gr.Radio, told: gr.HTML) -> None:
    """Let `button` fill the form; `told` says what is wrong with a video."""

    def restore(video: str | None, locale: str, chosen: str | None) -> list[Any]:
        return refilled(video, locale, chosen, settings) if video else [gr.skip()] * (len(FIELDS) + 4)

    button.upload(restore, [button, language, form.fields["model"]], [told, *form.sources, *form.inputs], **QUIET)


def refilled(video: str, locale: str, chosen: str | None, settings: Settings) -> list[Any]:
    """What to tell, the picture, no clip, the last picture, and the values of FIELDS after the upload of `video`,
    `chosen` being the form's model."""
    locale = known(locale)
    try:
        restored = restored_from(Path(video), settings, chosen)
    except UserError as error:
        return [panels.problem(error.message, locale), *[gr.skip()] * (len(FIELDS) + 3)]
    told = "".join(panels.problem(note, locale) for note in restored.notes)
    fields = dict(zip(FIELDS, same_again(restored.request), strict=True))
    if not restored.model_is_its_own:
        fields["model"] = gr.skip()
    needless = restored.picture is None and restored.request.task == "i2v"  # it could not be read: the one there stays
    pictures = (one and str(one) for one in (restored.picture, restored.last_picture))
    first, last = [gr.skip()] * 2 if needless else pictures
    return [told, first, None, last, *fields.values()]
