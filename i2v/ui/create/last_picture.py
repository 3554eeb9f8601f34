"""The place for a picture that the video ends with: for which models it is seen, and how a picture comes in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from PIL import Image

from i2v.messages import UserError
from i2v.ui.create.task import Places
from i2v.ui.shown import panels
from i2v.ui.shown.picture import for_browsers
from i2v.ui.tabs import LANGUAGE, QUIET
from i2v.ui.texts import known, text

if TYPE_CHECKING:
    from i2v.ui.create.form import Form

PLACE_HEIGHT = 180  # pixels
SOURCES = ["upload", "clipboard", "webcam"]


def last_picture_place(i18n: gr.I18n, seen: Places, *, ever: bool) -> gr.Image:
    """The place, laid out here. `ever`: whether any model takes a last picture. If so the place is there even while it
    is not seen, so that it is heard to change."""
    return gr.Image(
        label=i18n(f"ui.{label_of(seen)}"),
        type="filepath",
        image_mode=None,
        sources=SOURCES,
        height=PLACE_HEIGHT,
        placeholder=i18n("ui.last_picture_drop"),
        visible=seen.last or ("hidden" if ever else False),
        elem_id="i2v-last-picture",
    )


def label_of(seen: Places) -> str:
    """The id of its label: whether the model needs one."""
    return "last_picture" if seen.last_needed else "last_picture_optional"


def last_picture_update(seen: Places, locale: str) -> Any:
    """An update for the place."""
    label, drop = text(label_of(seen), locale), text("last_picture_drop", locale)
    return gr.update(visible=seen.last or "hidden", label=label, placeholder=drop)


def connect_last_picture(
    form: Form,
    language: gr.Radio,
    told: gr.HTML,
    read: Callable[[Any], tuple[Path | None, Image.Image | None]],
    before: Callable[[gr.Request | None, Any], Path | None],
) -> None:
    """Let a picture that comes in be looked at, at once, by `read`, and be shown where the browser cannot. `told` says
    what is wrong with it; the one that was there, `before` by the ticket of the form, comes back then."""

    def pictured(request: gr.Request | None, locale: str, picture: Any, ticket: Any) -> list[Any]:
        try:
            path, loaded = read(picture)
        except UserError as error:
            earlier = before(request, ticket)
            return [panels.problem(error.message, known(locale)), str(earlier) if earlier else None]
        copy = for_browsers(path, loaded) if path and loaded else None
        return ["", str(copy) if copy else gr.skip()]

    by_language = f"(_, ...rest) => [{LANGUAGE}, ...rest]"
    asked = [language, form.last_picture, form.ticket]
    form.last_picture.input(pictured, asked, [told, form.last_picture], js=by_language, preprocess=False, **QUIET)
