"""A video made here gives its settings and its picture back to the form."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from i2v.jobs.again import values_of
from i2v.jobs.prepare import build_request
from i2v.messages import UserError
from i2v.request import GenerationRequest
from i2v.settings import Settings
from i2v.ui import panels
from i2v.ui.form import FIELDS, Form, form_values
from i2v.ui.tabs import QUIET
from i2v.ui.texts import known
from i2v.video.metadata import read_metadata
from i2v.video.stills import first_frame

STILL = "first-frame.png"


@dataclass(frozen=True)
class Restored:
    """What a video was made from: the request, and its first frame as a picture."""

    request: GenerationRequest
    picture: Path


def restored_from(path: Path, settings: Settings) -> Restored:
    """The request in the metadata of the mp4 at `path`, checked as if somebody had typed it, and the video's first
    frame, written beside it. Raises UserError for a video that was not made here, or that asks for what cannot be."""
    told = read_metadata(path).get("request")
    try:
        request = build_request(values_of(GenerationRequest.from_json(told)), settings, to_run=False)
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise UserError("video.no_metadata", file=path.name) from error
    picture = path.with_name(STILL)
    first_frame(path, picture, max_megapixels=settings.max_picture_megapixels)
    return Restored(request, picture)


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

    def restore(video: str | None, locale: str) -> list[Any]:
        locale = known(locale)
        nothing = [gr.skip()] * (len(FIELDS) + 1)
        if not video:
            return [gr.skip(), *nothing]
        try:
            restored = restored_from(Path(video), settings)
        except UserError as error:
            return [panels.problem(error.message, locale), *nothing]
        return [panels.ready(locale), str(restored.picture), *same_again(restored.request)]

    button.upload(restore, [button, language], [told, form.picture, *form.inputs], **QUIET)
